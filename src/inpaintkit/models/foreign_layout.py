"""The U-Net of guided-diffusion and improved-diffusion: its shape read off a state dict, and its keys against ours.

Written from the key table of the public code (docs: `inpaintkit models convert`). With l counted over levels (halvings of
the picture) and n residual blocks in each, their flat lists are: the first convolution is `input_blocks.0`, block r of
level l is `input_blocks.{1 + l (n + 1) + r}`, the step to the next level follows it; upwards there are n + 1 blocks a
level, `output_blocks.{l (n + 1) + r}`, the step up stands inside the last of them. Attention is submodule 1 of a block.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

from torch import Tensor

from inpaintkit.core.errors import BadInput

Shapes = Mapping[str, tuple[int, ...]]

PARTS = {
    **{"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"},
    **{"conv2": "out_layers.3", "conv_shortcut": "skip_connection", "group_norm": "norm", "to_out.0": "proj_out"},
    **{"to_q": "qkv", "to_k": "qkv", "to_v": "qkv"},
}
ENDS = {
    **{"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"},
    **{"class_embedding": "label_emb", "conv_norm_out": "out.0", "conv_out": "out.2"},
}
THIRDS = ("to_q", "to_k", "to_v")


@dataclass(frozen=True)
class Layout:
    """What the keys and shapes of a state dict say."""

    channels: int
    """`num_channels`: width of the time embedding's input."""
    widths: tuple[int, ...]
    """Channels of each level, finest first."""
    blocks: int
    """`num_res_blocks`."""
    attention: tuple[bool, ...]
    """Whether each level has attention."""
    updown: bool
    """`resblock_updown`."""
    scale_shift: bool
    """`use_scale_shift_norm`."""
    inputs: int
    outputs: int
    classes: int | None

    @property
    def attended(self) -> set[int]:
        """Widths at which there is attention; the middle always has it."""
        return {self.widths[-1], *(width for width, has in zip(self.widths, self.attention, strict=True) if has)}


def read_layout(path: Path, shapes: Shapes) -> Layout:
    """The layout of a state dict. Raises `BadInput` when it is not one of this family, or parts are missing."""

    def shape(key: str, rank: int) -> tuple[int, ...]:
        if len(found := shapes.get(key, ())) != rank or 0 in found:
            said = f"has the shape {found}" if key in shapes else "is missing"
            raise BadInput(f"{path}: {key} {said}; this is not a whole guided-diffusion network")
        return found

    if "conv_in.weight" in shapes:
        raise BadInput(f"{path}: is a file; give the model folder that holds config.json and the weights")
    ins, outs = (_indices(shapes, rf"{name}_blocks\.(\d{{1,3}})\.") for name in ("input", "output"))
    if ins and not outs:
        raise BadInput(f"{path}: has no output_blocks; a classifier, or half a network, cannot denoise")
    ups = _indices(shapes, r"output_blocks\.(\d{1,3})\.[12]\.(?:conv|in_layers)\.")
    levels = len(ups) + 1
    blocks = len(outs) // levels - 1
    if blocks < 1 or not (ins == outs == set(range(levels * (blocks + 1)))):
        raise BadInput(f"{path}: {len(ins)} input and {len(outs)} output blocks make no guided-diffusion network; parts are missing")
    firsts = [1 + level * (blocks + 1) for level in range(levels)]
    emb, width = shape("middle_block.0.emb_layers.1.weight", 2)[0], shape("middle_block.0.out_layers.3.weight", 4)[0]
    return Layout(
        channels=shape("time_embed.0.weight", 2)[1],
        widths=tuple(shape(f"input_blocks.{i}.0.out_layers.3.weight", 4)[0] for i in firsts),
        blocks=blocks,
        attention=tuple(f"input_blocks.{i}.1.qkv.weight" in shapes for i in firsts),
        updown=any(re.match(r"output_blocks\.\d{1,3}\.[12]\.in_layers\.", key) for key in shapes),
        scale_shift=emb == 2 * width,
        inputs=shape("input_blocks.0.0.weight", 4)[1],
        outputs=shape("out.2.weight", 4)[0],
        classes=shape("label_emb.weight", 2)[0] if "label_emb.weight" in shapes else None,
    )


def unet_settings(layout: Layout, size: int, heads: Mapping[int, int]) -> tuple[dict[str, Any], dict[str, int]]:
    """(arguments of diffusers' `UNet2DModel`, what those cannot say, as fields of `NetworkConfig`).

    `heads` gives the number of attention heads at each attended width.
    """
    sizes = {width // count for width, count in heads.items()}
    fixed = max(heads.values()) if len(sizes) > 1 else None
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if layout.updown else ("DownBlock2D", "UpBlock2D")
    kind = "resnet" if layout.updown else "conv"
    values = {
        "sample_size": size,
        "in_channels": layout.inputs,
        "out_channels": layout.outputs,
        "block_out_channels": list(layout.widths),
        "layers_per_block": layout.blocks,
        "down_block_types": ["AttnDownBlock2D" if has else plain[0] for has in layout.attention],
        "up_block_types": ["AttnUpBlock2D" if has else plain[1] for has in reversed(layout.attention)],
        "downsample_type": kind,
        "upsample_type": kind,
        "time_embedding_dim": 4 * layout.channels,
        "attention_head_dim": gcd(*heads) // fixed if fixed else min(sizes),
        "attn_norm_num_groups": 32,
        "resnet_time_scale_shift": "scale_shift" if layout.scale_shift else "default",
        "num_class_embeds": layout.classes,
    }
    time = layout.channels if layout.widths[0] != layout.channels else None
    return values, {key: value for key, value in (("heads", fixed), ("time_channels", time)) if value is not None}


def their_key(ours: str, layout: Layout) -> str:
    """The original name of a parameter of our `UNet2DModel`; q, k and v all have the name of the tensor that holds the three."""
    module, _, last = ours.rpartition(".")
    if module in ENDS:
        return f"{ENDS[module]}.{last}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", module):
        return f"middle_block.{1 if found[1] == 'attentions' else 2 * int(found[2])}.{PARTS[found[3]]}.{last}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", module)
    assert found is not None, ours
    down, level, index, part = found[1] == "down", int(found[2]), int(found[4]), PARTS.get(found[5], found[5])
    place, first = {"resnets": 0, "attentions": 1}.get(found[3]), level * (layout.blocks + 1)
    if down and place is None:
        return f"input_blocks.{first + layout.blocks + 1}.0.{'op' if part == 'conv' else part}.{last}"
    if place is None:
        return f"output_blocks.{first + layout.blocks}.{2 if layout.attention[-1 - level] else 1}.{part}.{last}"
    return f"{'input' if down else 'output'}_blocks.{first + index + (1 if down else 0)}.{place}.{part}.{last}"


def their_shape(ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The original shape: q, k and v in one tensor, and convolutions of one position where we have matrices."""
    part = re.search(r"attentions\.\d+\.(to_[qkv]|to_out)\.", ours)
    if part is None:
        return shape
    return ((shape[0] if part[1] == "to_out" else 3 * shape[0]), *shape[1:], *([1] if len(shape) == 2 else []))


def our_tensor(ours: str, theirs: Tensor, heads: Mapping[int, int], new_order: bool) -> Tensor:
    """Our tensor, float32, of theirs. Rows of q, k, v are stored [head][qkv][channel], or [qkv][head][channel] in the new order."""
    theirs = theirs.float()
    third = next((k for k, name in enumerate(THIRDS) if f".{name}." in ours), None)
    if third is None:
        return theirs[..., 0] if ".to_out." in ours and theirs.ndim == 3 else theirs
    width = len(theirs) // 3
    rows = theirs.reshape(3, heads[width], -1)[third] if new_order else theirs.reshape(heads[width], 3, -1)[:, third]
    return rows.reshape(width, width) if theirs.ndim == 3 else rows.reshape(width)


def _indices(shapes: Shapes, pattern: str) -> set[int]:
    return {int(found[1]) for key in shapes if (found := re.match(pattern, key))}
