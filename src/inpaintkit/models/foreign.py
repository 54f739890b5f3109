"""Checkpoints of guided-diffusion and improved-diffusion, as their authors published them, become our networks.

The state dict says how the network is built; what it cannot say (attention heads, the order of q, k and v, the noise
schedule) comes from a JSON file with guided-diffusion's argument names, or from the table of published files here.
A wrong guess of any of these gives wrong pictures without an error, so nothing is guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.core.schedule import NoiseSchedule, cosine, linear
from inpaintkit.core.settings import Settings
from inpaintkit.models.checkpoints import build, checked_config, read_json
from inpaintkit.models.foreign_layout import Layout, our_tensor, read_layout, their_key, their_shape, unet_settings
from inpaintkit.models.tensors import read_tensors
from inpaintkit.models.unet import Network, NetworkConfig
from inpaintkit.models.weights import sha256

Count = Annotated[int, Field(ge=1, le=100_000)]


@dataclass(frozen=True)
class GuidedDiffusion(Settings):
    """The arguments of guided-diffusion and improved-diffusion, by their names (their `script_util.py`)."""

    image_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    num_heads: Annotated[int, Field(ge=-1, le=1024)] = -1
    num_head_channels: Annotated[int, Field(ge=-1, le=8192)] = -1
    """Given, it overrides `num_heads`."""
    num_heads_upsample: int = -1
    use_new_attention_order: bool | None = None
    noise_schedule: Literal["linear", "cosine"] | None = None
    diffusion_steps: Count | None = None
    rescale_timesteps: bool | None = None
    """Whether the network is told t * 1000 / diffusion_steps; matters only where that is not t."""
    predict_xstart: bool = False
    num_channels: Count | None = None
    """This one and the next seven can be read off the weights; given, they must agree."""
    num_res_blocks: Count | None = None
    channel_mult: str | tuple[float, ...] = ""
    attention_resolutions: str | int | tuple[int, ...] = ""
    class_cond: bool | None = None
    learn_sigma: bool | None = None
    use_scale_shift_norm: bool | None = None
    resblock_updown: bool | None = None
    timestep_respacing: Any = None
    """This one and the rest do not change what a network computes; they are read and left."""
    dropout: Any = None
    use_checkpoint: Any = None
    use_fp16: Any = None
    use_kl: Any = None
    sigma_small: Any = None
    rescale_learned_sigmas: Any = None

    def missing(self) -> list[str]:
        """What must be said and is not."""
        names = ["image_size", "use_new_attention_order", "noise_schedule", "diffusion_steps"]
        if self.diffusion_steps not in (None, 1000):
            names.append("rescale_timesteps")
        heads = [] if max(self.num_heads, self.num_head_channels) > 0 else ["num_head_channels (or num_heads)"]
        return heads + [name for name in names if getattr(self, name) is None]


_ALL = {"use_new_attention_order": False, "noise_schedule": "linear", "diffusion_steps": 1000, "class_cond": False, "learn_sigma": True}
_GUIDED = _ALL | {
    **{"image_size": 256, "num_channels": 256, "num_res_blocks": 2, "attention_resolutions": "32,16,8", "num_head_channels": 64},
    **{"channel_mult": "1,1,2,2,4,4", "use_scale_shift_norm": True, "resblock_updown": True},
}
_CLASSES = _GUIDED | {"class_cond": True}
_COSINE = {"diffusion_steps": 4000, "noise_schedule": "cosine", "rescale_timesteps": True}
_SMALL = {"image_size": 64, "num_channels": 128, "num_res_blocks": 3, "attention_resolutions": "16,8", "channel_mult": "1,2,3,4"}
_IMPROVED = _ALL | _COSINE | _SMALL | {"num_heads": 4, "use_scale_shift_norm": True, "resblock_updown": False}
_CIFAR = _IMPROVED | {"image_size": 32, "channel_mult": "1,2,2,2"}
_BEDROOM = _ALL | {
    **{"image_size": 256, "num_channels": 128, "num_res_blocks": 2, "attention_resolutions": "16", "num_heads": 1},
    **{"channel_mult": "1,1,2,2,4,4", "use_scale_shift_norm": False, "resblock_updown": False},
}
_FOUR = {"image_size": 128, "num_heads": 4, "num_head_channels": -1, "channel_mult": "1,1,2,3,4"}
_NEW = {"image_size": 64, "num_channels": 192, "num_res_blocks": 3, "channel_mult": "1,2,3,4", "noise_schedule": "cosine"}

PUBLISHED: dict[str, Mapping[str, Any]] = {
    "celeba256_250000": _GUIDED,  # RePaint's readme and confs; its third is 256x256_diffusion
    "places256_300000": _GUIDED,
    "64x64_diffusion": _CLASSES | _NEW | {"use_new_attention_order": True},  # this and the next eight: guided-diffusion's readme
    "128x128_diffusion": _CLASSES | _FOUR,
    "256x256_diffusion": _CLASSES,
    "256x256_diffusion_uncond": _GUIDED,
    "512x512_diffusion": _CLASSES | {"image_size": 512, "channel_mult": "0.5,1,1,2,2,4,4"},
    "lsun_bedroom": _GUIDED,
    "lsun_cat": _GUIDED,
    "lsun_horse": _GUIDED,
    "lsun_horse_nodropout": _GUIDED,
    "ffhq_10m": _GUIDED | {"num_channels": 128, "num_res_blocks": 1, "attention_resolutions": "16"},  # ILVR, DPS
    "imagenet64_uncond_100M_1500K": _IMPROVED,  # this and the rest: improved-diffusion's readme
    "imagenet64_uncond_vlb_100M_1500K": _IMPROVED,
    "imagenet64_cond_270M_250K": _IMPROVED | {"num_channels": 192, "class_cond": True, "rescale_timesteps": False},
    "cifar10_uncond_50M_500K": _CIFAR,
    "cifar10_uncond_vlb_50M_500K": _CIFAR,
    "lsun_uncond_100M_1200K_bs128": _BEDROOM,
    "lsun_uncond_100M_2400K_bs64": _BEDROOM,
}
"""Name of a published file, without its suffix -> its arguments."""


@dataclass(frozen=True)
class Plan:
    """What a state dict is to become, before any number of it is read."""

    network: Network
    """Empty: it takes no memory yet."""
    schedule: NoiseSchedule
    layout: Layout
    heads: Mapping[int, int]
    """Attention heads at each attended width."""
    new_order: bool
    """`use_new_attention_order`."""


def load_file(path: Path, config: Path | None = None) -> tuple[Network, NoiseSchedule, str]:
    """(network in float32 on the CPU, its schedule, sha256 of the file). Raises `BadInput`, one line.

    config: a JSON file of `GuidedDiffusion`'s fields; without it the file's name must be one of `PUBLISHED`.
    """
    path = Path(path)
    tensors = read_tensors(path)
    planned = plan(path, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, config)
    planned.network.unet.load_state_dict(_converted(path, tensors, planned), assign=True)
    return planned.network.eval().requires_grad_(False), planned.schedule, sha256(path)


def plan(path: Path, shapes: Mapping[str, tuple[int, ...]], config: Path | None = None) -> Plan:
    """The network that a state dict of these shapes is of. Raises `BadInput` as `load_file` does."""
    layout = read_layout(path, shapes)
    if layout.inputs != 3:
        raise BadInput(f"{path}: its network takes {layout.inputs} channels, not the 3 of a picture; an upsampler cannot fill holes")
    said, where = _arguments(path, config)
    size, steps, scale = said.image_size or 0, said.diffusion_steps or 0, 1.0
    _compare(where, said, layout, size)
    heads = _heads(where, said, layout)
    values, beyond = unet_settings(layout, size, heads)
    if said.rescale_timesteps:
        scale = 1000 / steps
    unit = max(64, 2 ** (len(layout.widths) - 1))
    about = {"prediction": "x0" if said.predict_xstart else "eps", "size": size, "largest": -(-size // unit) * unit, "time_scale": scale}
    network = build(path, values, checked_config(NetworkConfig, path, about | beyond))
    schedule = (cosine if said.noise_schedule == "cosine" else linear)(steps)
    return Plan(network, schedule, layout, heads, bool(said.use_new_attention_order))


def _arguments(path: Path, config: Path | None) -> tuple[GuidedDiffusion, Path]:
    """What the weights cannot say, and the file to be named when it is wrong."""
    where = config or path
    said = checked_config(GuidedDiffusion, where, read_json(config) if config else dict(PUBLISHED.get(path.stem, {})))
    if not config and path.stem not in PUBLISHED:
        needed = ", ".join(said.missing())
        how = f"inpaintkit models convert {path} FOLDER --config FILE.json, with guided-diffusion's argument names"
        raise BadInput(f"{path}: not a published file's name, and the weights do not say {needed}; {how}")
    if missing := said.missing():
        raise BadInput(f"{where}: does not say {', '.join(missing)}, and the weights cannot; guided-diffusion's command line had them")
    return said, where


def _compare(where: Path, said: GuidedDiffusion, layout: Layout, size: int) -> None:
    """Raise `BadInput` when an argument contradicts the weights."""
    read = {
        "num_channels": layout.channels,
        "num_res_blocks": layout.blocks,
        "class_cond": layout.classes is not None,
        "learn_sigma": layout.outputs == 2 * layout.inputs,
        "use_scale_shift_norm": layout.scale_shift,
        "resblock_updown": layout.updown,
    }
    for name, value in read.items():
        if getattr(said, name) not in (None, value):
            raise BadInput(f"{where}: {name} = {getattr(said, name)}, but the weights say {value}; they are of different networks")
    mult = _numbers(where, "channel_mult", said.channel_mult)
    if mult and tuple(int(m * layout.channels) for m in mult) != layout.widths:
        widths = ",".join(f"{width / layout.channels:g}" for width in layout.widths)
        raise BadInput(f"{where}: channel_mult = {said.channel_mult}, but the weights say {widths}; they are of different networks")
    sides = [size / 2**level for level in range(len(layout.widths))]
    given = set(_numbers(where, "attention_resolutions", said.attention_resolutions)) & set(sides)
    found = {side for side, has in zip(sides, layout.attention, strict=True) if has}
    if said.attention_resolutions != "" and given != found:
        text = ",".join(f"{side:g}" for side in sorted(found, reverse=True)) or "none"
        raise BadInput(f"{where}: attention_resolutions = {said.attention_resolutions}, but at {size} px the weights say {text}")


def _numbers(where: Path, name: str, value: Any) -> list[float]:
    items = value.split(",") if isinstance(value, str) and value else value or []
    try:
        return [float(item) for item in (items if isinstance(items, (list, tuple)) else [items])]
    except ValueError:
        raise BadInput(f"{where}: {name} = {value!r}; numbers with commas between them are needed, such as 1,2,4") from None


def _heads(where: Path, said: GuidedDiffusion, layout: Layout) -> dict[int, int]:
    """Attention heads at each attended width. Raises `BadInput` where they do not divide it."""
    each = said.num_head_channels
    if each <= 0 and said.num_heads_upsample not in (-1, said.num_heads):
        raise BadInput(f"{where}: num_heads_upsample = {said.num_heads_upsample} differs from num_heads, which is not supported")
    for width in layout.attended:
        if width % (each if each > 0 else said.num_heads):
            name = "num_head_channels" if each > 0 else "num_heads"
            raise BadInput(f"{where}: {name} = {getattr(said, name)} does not divide the {width} channels of an attention layer")
    return {width: width // each if each > 0 else said.num_heads for width in layout.attended}


def _converted(path: Path, tensors: dict[str, Tensor], planned: Plan) -> dict[str, Tensor]:
    """Our state dict, every tensor of theirs used. Raises `BadInput` for what is missing, unknown, of a wrong shape or not finite."""
    ours = {key: tuple(tensor.shape) for key, tensor in planned.network.unet.state_dict().items()}
    names = {key: their_key(key, planned.layout) for key in ours}
    missing, unknown = sorted(set(names.values()) - tensors.keys()), sorted(tensors.keys() - set(names.values()))
    if missing or unknown:
        example = f"missing {missing[0]}" if missing else f"unknown {unknown[0][:80]}"
        raise BadInput(f"{path}: no whole guided-diffusion network: {len(missing)} tensors missing, {len(unknown)} unknown ({example})")
    for key, name in names.items():
        if (found := tuple(tensors[name].shape)) != (wanted := their_shape(key, ours[key])):
            raise BadInput(f"{path}: {name} has the shape {found}; the rest of the network needs {wanted}")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor.float()).all():
            raise BadInput(f"{path}: {name} holds NaN or infinity; the training that made it failed")
    return {key: our_tensor(key, tensors[name], planned.heads, planned.new_order) for key, name in names.items()}


def card(source: str, digest: str, network: Network) -> str:
    """The model card of a converted network (Markdown)."""
    config = network.config
    special = [name for name in ("heads", "time_channels", "time_scale") if getattr(config, name) != getattr(NetworkConfig(), name)]
    lines = [
        f"# {Path(source).stem}",
        "",
        f"Converted by `inpaintkit models convert` from `{Path(source).name}`, sha256 `{digest}`.",
        f"{sum(p.numel() for p in network.parameters()):,} parameters, trained on {config.size} x {config.size} pixels.",
        "The terms of use are those of the source, which this file does not know.",
    ]
    if special:
        named = ", ".join(f"{name} = {getattr(config, name):g}" for name in special)
        lines += ["", f"Read this folder with inpaintkit: diffusers' own `UNet2DModel` cannot express {named} (in `inpaintkit.json`)"]
        lines += ["and computes something else, or refuses the weights."]
    return "\n".join(lines) + "\n"
