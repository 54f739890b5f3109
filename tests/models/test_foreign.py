"""Checkpoints of guided-diffusion's family: our network computes what theirs does, and what is not one is refused in one line.

The reference here is written from the key table of the public code with torch's functions only: it knows neither diffusers
nor our package.
"""

import json
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from inpaintkit.core.errors import BadInput, NotWritable, UsageError
from inpaintkit.core.schedule import cosine, linear
from inpaintkit.models import catalog
from inpaintkit.models.foreign import PUBLISHED, plan
from inpaintkit.models.unet import NetworkConfig, classes

CLOSE = 2e-5
"""Of outputs around 1: a few dozen float32 layers, each rounding like 1e-7, in other orders of summation."""
WRONG = 100 * CLOSE


@dataclass(frozen=True)
class Net:
    """The arguments of the original code."""

    size: int = 32
    channels: int = 32
    mult: tuple[float, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (2,)
    """In halvings of the picture (ds = image_size // attention_resolution)."""
    updown: bool = True
    scale_shift: bool = True
    classes: int | None = None
    sigma: bool = True
    inputs: int = 3
    head_channels: int = 16
    heads: int = -1
    new_order: bool = False
    steps: int = 1000
    rescale: bool = False
    schedule: str = "linear"
    flip: bool = False
    """Sine before cosine: wrong on purpose."""

    def config(self) -> dict[str, Any]:
        """What the weights cannot say."""
        heads = {"num_head_channels": self.head_channels, "num_heads": self.heads}
        sampling = {"noise_schedule": self.schedule, "diffusion_steps": self.steps, "rescale_timesteps": self.rescale}
        return {"image_size": self.size, "use_new_attention_order": self.new_order} | heads | sampling

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every key of the state dict, and its shape."""
        found: dict[str, tuple[int, ...]] = {}
        wide = 4 * self.channels

        def layer(name: str, *shape: int) -> None:
            found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

        def res(name: str, c: int, out: int) -> None:
            layer(f"{name}.in_layers.0", c)
            layer(f"{name}.in_layers.2", out, c, 3, 3)
            layer(f"{name}.emb_layers.1", out * (2 if self.scale_shift else 1), wide)
            layer(f"{name}.out_layers.0", out)
            layer(f"{name}.out_layers.3", out, out, 3, 3)
            if c != out:
                layer(f"{name}.skip_connection", out, c, 1, 1)

        def attend(name: str, c: int) -> None:
            layer(f"{name}.norm", c)
            layer(f"{name}.qkv", 3 * c, c, 1)
            layer(f"{name}.proj_out", c, c, 1)

        layer("time_embed.0", wide, self.channels)
        layer("time_embed.2", wide, wide)
        if self.classes:
            found["label_emb.weight"] = (self.classes, wide)
        c = int(self.mult[0] * self.channels)
        layer("input_blocks.0.0", c, self.inputs, 3, 3)
        skips, i = [c], 1
        for level, m in enumerate(self.mult):
            for _ in range(self.blocks):
                res(f"input_blocks.{i}.0", c, c := int(m * self.channels))
                if 2**level in self.attention:
                    attend(f"input_blocks.{i}.1", c)
                skips, i = [*skips, c], i + 1
            if level < len(self.mult) - 1:
                if self.updown:
                    res(f"input_blocks.{i}.0", c, c)
                else:
                    layer(f"input_blocks.{i}.0.op", c, c, 3, 3)
                skips, i = [*skips, c], i + 1
        res("middle_block.0", c, c)
        attend("middle_block.1", c)
        res("middle_block.2", c, c)
        i = 0
        for level in reversed(range(len(self.mult))):
            for block in range(self.blocks + 1):
                res(f"output_blocks.{i}.0", c + skips.pop(), c := int(self.mult[level] * self.channels))
                place = 1
                if 2**level in self.attention:
                    attend(f"output_blocks.{i}.1", c)
                    place = 2
                if level and block == self.blocks:
                    if self.updown:
                        res(f"output_blocks.{i}.{place}", c, c)
                    else:
                        layer(f"output_blocks.{i}.{place}.conv", c, c, 3, 3)
                i += 1
        layer("out.0", c)
        layer("out.2", 6 if self.sigma else 3, c, 3, 3)
        return found

    def weights(self, seed: int = 0) -> dict[str, Tensor]:
        """Random ones that keep the numbers of order 1."""
        g = torch.Generator().manual_seed(seed)
        made = {key: torch.randn(shape, generator=g) for key, shape in self.shapes().items()}
        norms = {key: ".norm." in key or "in_layers.0." in key or "out_layers.0." in key or key.startswith("out.0.") for key in made}
        for key, tensor in made.items():
            if tensor.ndim == 1:
                tensor.mul_(0.1).add_(1 if norms[key] and key.endswith("weight") else 0)
            elif not key.startswith("label_emb"):
                tensor.div_(math.sqrt(tensor[0].numel()))
        return made

    def __call__(self, w: dict[str, Tensor], x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The original network's output for its state dict w."""

        def linear_(name: str, h: Tensor) -> Tensor:
            return F.linear(h, w[f"{name}.weight"], w[f"{name}.bias"])

        def conv(name: str, h: Tensor, stride: int = 1) -> Tensor:
            weight = w[f"{name}.weight"]
            return F.conv2d(h, weight, w[f"{name}.bias"], stride, weight.shape[-1] // 2)

        def norm(name: str, h: Tensor) -> Tensor:
            return F.group_norm(h, 32, w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

        def res(name: str, h: Tensor, move: Callable[[Tensor], Tensor] = lambda a: a) -> Tensor:
            a = conv(f"{name}.in_layers.2", move(F.silu(norm(f"{name}.in_layers.0", h))))
            h, e = move(h), linear_(f"{name}.emb_layers.1", F.silu(emb))[..., None, None]
            if self.scale_shift:
                scale, shift = e.chunk(2, 1)
                a = norm(f"{name}.out_layers.0", a) * (1 + scale) + shift
            else:
                a = norm(f"{name}.out_layers.0", a + e)
            a = conv(f"{name}.out_layers.3", F.silu(a))
            return (conv(f"{name}.skip_connection", h) if f"{name}.skip_connection.weight" in w else h) + a

        def attend(name: str, h: Tensor) -> Tensor:
            b, c = h.shape[:2]
            heads = self.heads if self.head_channels == -1 else c // self.head_channels
            qkv = F.conv1d(norm(f"{name}.norm", h.flatten(2)), w[f"{name}.qkv.weight"], w[f"{name}.qkv.bias"])
            parts = qkv.view(b, 3, heads, c // heads, -1).unbind(1) if self.new_order else qkv.view(b, heads, 3, c // heads, -1).unbind(2)
            q, k, v = parts
            share = torch.softmax(q.mT @ k / math.sqrt(c // heads), -1)
            a = (v @ share.mT).reshape(b, c, -1)
            return h + F.conv1d(a, w[f"{name}.proj_out.weight"], w[f"{name}.proj_out.bias"]).view_as(h)

        def half(h: Tensor) -> Tensor:
            return F.avg_pool2d(h, 2)

        def double(h: Tensor) -> Tensor:
            return F.interpolate(h, scale_factor=2.0, mode="nearest")

        time_ = t.to(x.dtype) * (1000 / self.steps if self.rescale else 1)
        angles = time_[:, None] * torch.exp(-math.log(10_000) * torch.arange(self.channels // 2) / (self.channels // 2))
        waves = [angles.cos(), angles.sin()]
        emb = linear_("time_embed.2", F.silu(linear_("time_embed.0", torch.cat(waves[::-1] if self.flip else waves, 1))))
        if self.classes:
            emb = emb + w["label_emb.weight"][labels]
        h = conv("input_blocks.0.0", x)
        skips = [h]
        for i in range(1, len(self.mult) * (self.blocks + 1)):
            if i % (self.blocks + 1):
                h = res(f"input_blocks.{i}.0", h)
            else:
                h = res(f"input_blocks.{i}.0", h, half) if self.updown else conv(f"input_blocks.{i}.0.op", h, 2)
            if f"input_blocks.{i}.1.qkv.weight" in w:
                h = attend(f"input_blocks.{i}.1", h)
            skips.append(h)
        h = res("middle_block.2", attend("middle_block.1", res("middle_block.0", h)))
        for i in range(len(skips)):
            h = res(f"output_blocks.{i}.0", torch.cat([h, skips.pop()], 1))
            place = 1
            if f"output_blocks.{i}.1.qkv.weight" in w:
                h, place = attend(f"output_blocks.{i}.1", h), 2
            if f"output_blocks.{i}.{place}.conv.weight" in w:
                h = conv(f"output_blocks.{i}.{place}.conv", double(h))
            elif f"output_blocks.{i}.{place}.in_layers.0.weight" in w:
                h = res(f"output_blocks.{i}.{place}", h, double)
        return conv("out.2", F.silu(norm("out.0", h)))


FOUR = {"head_channels": -1, "heads": 4}
IMPROVED = {"updown": False, "steps": 4000, "rescale": True, "schedule": "cosine"}
VARIANTS = {
    "updown, scale-shift": Net(),
    "updown, no scale-shift": Net(scale_shift=False),
    "no updown, scale-shift": Net(updown=False),
    "no updown, no scale-shift": Net(updown=False, scale_shift=False),
    "new attention order": Net(new_order=True),
    "class-conditional": Net(classes=10),
    "no learned sigma": Net(sigma=False),
    "attention at the finest level": Net(attention=(1, 2)),
    "attention in the middle only": Net(attention=()),
    "one level": Net(size=16, mult=(2,), attention=(1,)),
    "mini 256": Net(64, 32, (1, 1, 2, 2, 4, 4), 2, (8, 16, 32)),
    "mini 64": Net(32, 32, (1, 2, 3, 4), 3, (2, 4, 8), classes=10, new_order=True, schedule="cosine"),
    "mini ffhq_10m": Net(64, 32, (1, 1, 2, 2, 4, 4), 1, (16,)),
    "mini 128, four heads": Net(32, 32, (1, 1, 2, 3, 4), 2, (4, 8, 16), classes=10, **FOUR),
    "mini 512, multiplier 0.5": Net(64, 64, (0.5, 1, 1, 2, 2, 4, 4), 1, (16, 32, 64), classes=10),
    "both at once": Net(32, 64, (0.5, 1, 2), 1, (2, 4), **FOUR),
    "mini improved 64": Net(32, 32, (1, 2, 3, 4), 3, (4, 8), **FOUR, **IMPROVED),
    "mini improved LSUN": Net(32, 32, (1, 1, 2), 2, (2,), updown=False, scale_shift=False, head_channels=-1, heads=1),
}
IN_DIFFUSERS = ("updown, scale-shift", "no updown, no scale-shift", "new attention order", "mini 256")


def written(folder: Path, net: Net, weights: dict[str, Tensor] | None = None, name: str = "some.pt", **config: Any) -> tuple[Path, Path]:
    """(checkpoint, its configuration) as files."""
    path, described = folder / name, folder / "config.json"
    weights = net.weights() if weights is None else weights
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    described.write_text(json.dumps({k: v for k, v in (net.config() | config).items() if v is not None}))
    return path, described


def inputs(net: Net) -> tuple[Tensor, Tensor, Tensor | None]:
    g = torch.Generator().manual_seed(1)
    x, t = torch.randn(3, 3, net.size, net.size, generator=g), torch.tensor([0, net.steps // 3, net.steps - 1])
    return x, t, None if net.classes is None else torch.tensor([3, 9, 0])


@torch.no_grad()
def answer(model: catalog.Model, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    return model.network(x, t, torch.zeros_like(x[:, :1]), torch.zeros_like(x), labels)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_converted_network_computes_what_the_original_does(tmp_path, name):
    net = VARIANTS[name]
    weights, (x, t, labels) = net.weights(), inputs(net)
    model = catalog.load(*written(tmp_path, net, weights))
    expected, found = net(weights, x, t, labels), answer(model, x, t, labels)
    difference = float((found - expected).abs().max())
    print(f"{name:<32} rms {float(expected.square().mean().sqrt()):.2f}  largest difference {difference:.1e}")
    assert found.shape[1] == (6 if net.sigma else 3)
    assert 0.1 < expected.square().mean().sqrt() < 10
    assert difference <= CLOSE
    for wrong in (replace(net, flip=True), replace(net, new_order=not net.new_order)):
        if wrong.flip or net.heads != 1:  # with one head both orders are the same
            assert (wrong(weights, x, t, labels) - expected).abs().max() > WRONG
    ours = catalog.convert(str(tmp_path / "some.pt"), tmp_path / "folder", tmp_path / "config.json")
    again = catalog.load(tmp_path / "folder")
    assert torch.equal(answer(again, x, t, labels), found)
    assert again.network.config == ours.network.config == model.network.config
    assert torch.equal(again.schedule.alpha_bar, model.schedule.alpha_bar)
    assert torch.equal(model.schedule.alpha_bar, (cosine if net.schedule == "cosine" else linear)(net.steps).alpha_bar)


@pytest.mark.parametrize("name", ["mini 256", "mini 64", "mini improved 64"])
def test_parity_is_lost_when_the_order_of_qkv_or_of_sine_and_cosine_is_wrong(tmp_path, name):
    net = VARIANTS[name]
    x, t, labels = inputs(net)
    expected = net(net.weights(), x, t, labels)
    swapped = catalog.load(*written(tmp_path, net, use_new_attention_order=not net.new_order))
    assert (answer(swapped, x, t, labels) - expected).abs().max() > WRONG
    flipped = catalog.load(*written(tmp_path, net))
    assert (answer(flipped, x, t, labels) - expected).abs().max() <= CLOSE
    flipped.network.unet.time_proj.flip_sin_to_cos = False
    assert (answer(flipped, x, t, labels) - expected).abs().max() > WRONG


def their_answer(folder: Path, x: Tensor, t: Tensor) -> Tensor:
    with torch.no_grad():
        return UNet2DModel.from_pretrained(folder / "unet")(x, t).sample


@pytest.mark.parametrize("name", IN_DIFFUSERS)
def test_diffusers_own_classes_read_what_their_configuration_can_say(tmp_path, name):
    net = VARIANTS[name]
    model = catalog.convert(*map(str, written(tmp_path, net)[:1]), tmp_path / "folder", tmp_path / "config.json")
    x, t, _ = inputs(net)
    # last bits may differ: where weights lie in memory decides which kernels some processors take
    assert (their_answer(tmp_path / "folder", x, t) - answer(model, x, t, None)).abs().max() < 1e-5
    assert "cannot express" not in (tmp_path / "folder" / "README.md").read_text()


def test_the_model_card_says_what_diffusers_own_classes_would_read_wrongly(tmp_path):
    net = replace(VARIANTS["mini 128, four heads"], classes=None)
    model = catalog.convert(str(written(tmp_path, net)[0]), tmp_path / "heads", tmp_path / "config.json")
    x, t, _ = inputs(net)
    assert (their_answer(tmp_path / "heads", x, t) - answer(model, x, t, None)).abs().max() > WRONG
    assert "cannot express heads = 4" in (tmp_path / "heads" / "README.md").read_text()
    net = replace(VARIANTS["mini 512, multiplier 0.5"], classes=None)
    catalog.convert(str(written(tmp_path, net)[0]), tmp_path / "half", tmp_path / "config.json")
    assert "cannot express time_channels = 64" in (tmp_path / "half" / "README.md").read_text()
    with pytest.raises(Exception, match="shape"):
        their_answer(tmp_path / "half", x, t)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_file_format_and_precision_gives_the_same_float32_network(tmp_path, suffix, dtype):
    net = Net()
    weights = {key: tensor.half().bfloat16().to(dtype) for key, tensor in net.weights().items()}
    model = catalog.load(*written(tmp_path, net, weights, f"misleading.{suffix}"))
    x, t, _ = inputs(net)
    assert all(p.dtype == torch.float32 for p in model.network.parameters())
    assert (answer(model, x, t, None) - net({k: v.float() for k, v in weights.items()}, x, t)).abs().max() <= CLOSE


def test_the_older_format_of_torch_is_read_and_the_suffix_does_not_matter(tmp_path):
    net = Net()
    path, config = written(tmp_path, net, name="old.safetensors")
    torch.save(net.weights(), path, _use_new_zipfile_serialization=False)
    x, t, _ = inputs(net)
    assert (answer(catalog.load(path, config), x, t, None) - net(net.weights(), x, t)).abs().max() <= CLOSE


LARGE = Net(256, 256, (1, 1, 2, 2, 4, 4), 2, (8, 16, 32))
SMALL = Net(64, 128, (1, 2, 3, 4), 3, (4, 8), updown=False)
FULL = {
    "celeba256_250000": (LARGE, 552_814_086, 566),
    "places256_300000": (LARGE, 552_814_086, 566),
    "256x256_diffusion": (replace(LARGE, classes=1000), 553_838_086, 567),
    "256x256_diffusion_uncond": (LARGE, 552_814_086, 566),
    "lsun_bedroom": (LARGE, 552_814_086, 566),
    "lsun_cat": (LARGE, 552_814_086, 566),
    "lsun_horse": (LARGE, 552_814_086, 566),
    "lsun_horse_nodropout": (LARGE, 552_814_086, 566),
    "64x64_diffusion": (Net(64, 192, (1, 2, 3, 4), 3, (2, 4, 8), classes=1000), 295_904_454, 541),
    "128x128_diffusion": (Net(128, 256, (1, 1, 2, 3, 4), 2, (4, 8, 16), classes=1000), 421_529_606, 493),
    "512x512_diffusion": (Net(512, 256, (0.5, 1, 1, 2, 2, 4, 4), 2, (16, 32, 64), classes=1000), 558_997_638, 645),
    "ffhq_10m": (Net(256, 128, (1, 1, 2, 2, 4, 4), 1, (16,)), 93_563_910, 362),
    "imagenet64_uncond_100M_1500K": (SMALL, None, None),
    "imagenet64_uncond_vlb_100M_1500K": (SMALL, None, None),
    "imagenet64_cond_270M_250K": (replace(SMALL, channels=192, classes=1000), None, None),
    "cifar10_uncond_50M_500K": (Net(32, 128, (1, 2, 2, 2), 3, (2, 4), updown=False), None, None),
    "cifar10_uncond_vlb_50M_500K": (Net(32, 128, (1, 2, 2, 2), 3, (2, 4), updown=False), None, None),
    "lsun_uncond_100M_1200K_bs128": (Net(256, 128, (1, 1, 2, 2, 4, 4), 2, (16,), updown=False, scale_shift=False), None, None),
    "lsun_uncond_100M_2400K_bs64": (Net(256, 128, (1, 1, 2, 2, 4, 4), 2, (16,), updown=False, scale_shift=False), None, None),
}
HEADS = {  # those of each attended width, as the original code would make them
    "64x64_diffusion": {384: 6, 576: 9, 768: 12},
    "128x128_diffusion": {512: 4, 768: 4, 1024: 4},
    "ffhq_10m": {512: 8},
    "imagenet64_uncond_100M_1500K": {384: 4, 512: 4},
    "cifar10_uncond_50M_500K": {256: 4},
    "lsun_uncond_100M_2400K_bs64": {512: 1},
    "celeba256_250000": {512: 8, 1024: 16},
}


def test_every_published_file_is_covered():
    assert FULL.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", [*HEADS, "256x256_diffusion", "512x512_diffusion", "imagenet64_cond_270M_250K", "lsun_horse"])
def test_a_published_file_is_planned_from_its_name_with_the_published_number_of_parameters(name):
    net, parameters, keys = FULL[name]
    shapes = net.shapes()
    made = plan(Path(f"{name}.pt"), shapes)
    count = sum(math.prod(shape) for shape in shapes.values())
    assert count == sum(p.numel() for p in made.network.parameters())
    assert all(p.is_meta for p in made.network.parameters())
    assert (count, len(shapes)) == (parameters or count, keys or len(shapes))
    if named := re.search(r"_(\d+)M_", name):  # improved-diffusion's names tell a rounded number
        assert 0.9 < count / 1e6 / int(named[1]) < 1.25
    print(f"{name:<30} {count:,}")
    assert made.heads == HEADS.get(name, made.heads)
    config = made.network.config
    assert (config.size, classes(made.network)) == (net.size, net.classes or 0)
    assert config.time_scale == (0.25 if name.startswith(("imagenet64_uncond", "cifar10")) else 1)
    steps = 4000 if name.startswith(("imagenet64", "cifar10")) else 1000
    assert len(made.schedule.alpha_bar) == steps + 1
    assert made.new_order == (name == "64x64_diffusion")


def test_a_file_with_a_published_name_and_another_network_inside_is_refused():
    with pytest.raises(BadInput, match=r"celeba256_250000.pt: num_channels = 256, but the weights say 128"):
        plan(Path("celeba256_250000.pt"), FULL["ffhq_10m"][0].shapes())


def refusal(path: Path, config: Path | None = None) -> str:
    with pytest.raises(BadInput) as error:
        catalog.load(path, config)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith((f"{path}: ", f"{config}: "))
    return str(error.value)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["some.pt", "some.safetensors", "celeba256_250000.pt"])
def test_code_in_a_checkpoint_is_not_executed(tmp_path, zipped, name):
    weights, bomb = Net().weights(), tmp_path / "executed"
    path, config = written(tmp_path, Net())
    path = tmp_path / name
    torch.save(weights | {"out.2.bias": Bomb(bomb)}, path, _use_new_zipfile_serialization=zipped)
    assert "which can run code, so it is not read" in refusal(path, config)
    assert not bomb.exists()
    with path.open("rb") as file:
        torch.load(file, weights_only=False)
    assert bomb.exists()  # it was a real one


def test_a_bare_pickle_is_refused_and_nothing_in_it_runs(tmp_path):
    path, config = written(tmp_path, Net())
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    refusal(path, config)
    assert not (tmp_path / "executed").exists()


def changed(key: str, index: int, value: float) -> Callable[[dict[str, Any]], None]:
    def change(weights: dict[str, Any]) -> None:
        weights[key].view(-1)[index] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("middle_block.1.norm.bias"), "1 tensors missing, 0 unknown (missing middle_block.1.norm.bias)"),
        (lambda w: w.update({"../../etc": torch.zeros(1)}), "0 tensors missing, 1 unknown (unknown ../../etc)"),
        (
            lambda w: w.update({"input_blocks.1.0.in_layers.9.weight": torch.zeros(1)}),
            "1 unknown (unknown input_blocks.1.0.in_layers.9.weight)",
        ),
        (lambda w: [w.pop(key) for key in list(w) if key.startswith("output")], "has no output_blocks; a classifier, or half a network"),
        (lambda w: [w.pop(key) for key in list(w)[len(w) // 2 :]], "make no guided-diffusion network; parts are missing"),
        (lambda w: [w.pop(key) for key in list(w)[: len(w) // 2]], "make no guided-diffusion network; parts are missing"),
        (
            lambda w: [w.pop(key) for key in list(w) if key.startswith("output_blocks.3")],
            "make no guided-diffusion network; parts are missing",
        ),
        (lambda w: [w.pop(key) for key in list(w) if key.startswith("middle")], "middle_block.0.emb_layers.1.weight is missing"),
        (lambda w: w.clear(), "make no guided-diffusion network"),
        (lambda w: w.update({"time_embed.0.weight": torch.zeros(5)}), "time_embed.0.weight has the shape (5,)"),
        (
            lambda w: w.update({"out.2.weight": torch.zeros(6, 32, 5, 5)}),
            "out.2.weight has the shape (6, 32, 5, 5); the rest of the network needs",
        ),
        (lambda w: w.update({"out.2.weight": torch.zeros(4, 32, 3, 3)}), "out_channels = 4, its pictures need 3"),
        (changed("out.2.bias", 1, float("nan")), "out.2.bias holds NaN or infinity"),
        (changed("input_blocks.1.0.in_layers.2.weight", 77, float("inf")), "input_blocks.1.0.in_layers.2.weight holds NaN or infinity"),
        (lambda w: w.update({"out.2.bias": torch.full((6,), 1e300, dtype=torch.float64)}), "out.2.bias holds NaN or infinity"),
        (lambda w: w.update({"out.2.bias": torch.zeros(6, dtype=torch.int32)}), "out.2.bias is int32; floating-point weights are needed"),
        (lambda w: w.update({"out.2.bias": torch.zeros(6).to_sparse()}), "out.2.bias is not a dense tensor"),
        (lambda w: w.update({"out.2.bias": torch.zeros(6, device="meta")}), "out.2.bias is not a dense tensor"),
        (
            lambda w: w.update({"out.2.bias": torch.quantize_per_tensor(torch.zeros(6), 0.1, 0, torch.quint8)}),
            "out.2.bias is not a dense tensor",
        ),
        (lambda w: w.update({"out.2.bias": torch.zeros(1).expand(10**12)}), "out.2.bias claims more numbers than the file holds"),
        (lambda w: w.update({"out.2.bias": 0.5}), "out.2.bias is a float, not a tensor"),
        (lambda w: w.update({"optimizer": {"lr": 1}}), "optimizer is a dict, not a tensor; the state dict of the network alone is needed"),
        (lambda w: w.update({3: torch.zeros(1)}), "3 is a Tensor, not a tensor"),
    ],
)
def test_weights_that_are_no_whole_network_are_refused(tmp_path, change, says):
    weights = Net().weights()
    change(weights)
    assert says in refusal(*written(tmp_path, Net(), weights))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02", b"<html>not found</html>", b"\x08" + bytes(7) + b"{}      "])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path, config = written(tmp_path, Net())
    path.write_bytes(content)
    refusal(path, config)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_truncated_checkpoint_is_refused(tmp_path, suffix):
    path, config = written(tmp_path, Net(), name=f"some.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refusal(path, config)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    import zipfile

    path, config = written(tmp_path, Net())
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in archive.infolist():
            bomb.writestr(member.filename, archive.read(member))
    assert "a compressed archive" in refusal(tmp_path / "bomb.pt", config)


def test_an_upsampler_and_a_folder_s_own_weights_are_refused_by_what_they_are(tmp_path):
    assert "takes 6 channels, not the 3 of a picture" in refusal(*written(tmp_path, Net(inputs=6)))
    catalog.convert(str(written(tmp_path, Net())[0]), tmp_path / "m", tmp_path / "config.json")
    assert "is a file; give the model folder" in refusal(tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors")


def test_what_is_missing_is_listed(tmp_path):
    path, config = written(tmp_path, Net())
    line = refusal(path)
    names = ("num_head_channels (or num_heads)", "image_size", "use_new_attention_order", "noise_schedule", "diffusion_steps")
    assert all(name in line for name in names)
    assert f"inpaintkit models convert {path} FOLDER --config FILE.json" in line
    config.write_text(json.dumps({"num_heads": 4, "image_size": 32, "noise_schedule": "cosine"}))
    assert "does not say use_new_attention_order, diffusion_steps, and the weights cannot" in refusal(path, config)
    written(tmp_path, Net(), diffusion_steps=4000, rescale_timesteps=None)
    assert "does not say rescale_timesteps" in refusal(path, config)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"num_head_chanels": 16}, "GuidedDiffusion has no option 'num_head_chanels'; did you mean 'num_head_channels'?"),
        ({"noise_schedule": "cosin"}, "noise_schedule = 'cosin'"),
        ({"image_size": 0}, "image_size = 0"),
        ({"image_size": "wide"}, "image_size = 'wide'"),
        ({"diffusion_steps": 10**9}, "diffusion_steps = 1000000000"),
        ({"num_head_channels": 7}, "num_head_channels = 7 does not divide the 64 channels of an attention layer"),
        ({"num_head_channels": -1, "num_heads": 7}, "num_heads = 7 does not divide the 64 channels"),
        ({"num_head_channels": -1, "num_heads": 4, "num_heads_upsample": 2}, "num_heads_upsample = 2 differs from num_heads"),
        ({"num_channels": 64}, "num_channels = 64, but the weights say 32; they are of different networks"),
        ({"num_res_blocks": 3}, "num_res_blocks = 3, but the weights say 1"),
        ({"class_cond": True}, "class_cond = True, but the weights say False"),
        ({"learn_sigma": False}, "learn_sigma = False, but the weights say True"),
        ({"use_scale_shift_norm": False}, "use_scale_shift_norm = False, but the weights say True"),
        ({"resblock_updown": False}, "resblock_updown = False, but the weights say True"),
        ({"channel_mult": "1,2,4"}, "channel_mult = 1,2,4, but the weights say 1,2"),
        ({"channel_mult": "1;2"}, "channel_mult = '1;2'; numbers with commas between them are needed"),
        ({"attention_resolutions": "32,16"}, "attention_resolutions = 32,16, but at 32 px the weights say 16"),
        ({"image_size": 64, "attention_resolutions": 16}, "attention_resolutions = 16, but at 64 px the weights say 32"),
    ],
)
def test_a_configuration_that_is_wrong_says_so(tmp_path, values, says):
    assert says in refusal(*written(tmp_path, Net(), **values))


def test_a_whole_command_line_of_guided_diffusion_is_accepted(tmp_path):
    whole = {"num_channels": 32, "num_res_blocks": 1, "channel_mult": "", "attention_resolutions": "16,8", "class_cond": "False"}
    whole |= {"learn_sigma": True, "use_scale_shift_norm": "True", "resblock_updown": True, "num_heads_upsample": -1, "dropout": 0.1}
    whole |= {"use_fp16": True, "use_checkpoint": False, "timestep_respacing": "250", "rescale_learned_sigmas": False, "use_kl": False}
    assert catalog.load(*written(tmp_path, Net(), **whole)).network.config.prediction == "eps"
    assert catalog.load(*written(tmp_path, Net(), predict_xstart=True)).network.config.prediction == "x0"


@pytest.mark.parametrize("content", ["[1]", "{", ""])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path, content):
    path, config = written(tmp_path, Net())
    config.write_text(content)
    assert refusal(path, config).startswith(f"{config}: ")
    config.unlink()
    assert refusal(path, config).startswith(f"{config}: ")


def test_a_folder_takes_no_configuration_and_a_missing_file_is_not_asked_for_at_the_hub(tmp_path, monkeypatch):
    path, config = written(tmp_path, Net())
    catalog.convert(str(path), tmp_path / "m", config)
    with pytest.raises(UsageError, match="leave --config away"):
        catalog.load(tmp_path / "m", config)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"models/celeba256_250000\.pt: no such file"):
        catalog.load("models/celeba256_250000.pt")


def test_a_folder_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    path, config = written(tmp_path, Net())
    before = sorted(tmp_path.iterdir())
    weights = Net().weights()
    weights["out.2.bias"][0] = float("nan")
    torch.save(weights, tmp_path / "some.pt")
    with pytest.raises(BadInput):
        catalog.convert(str(path), tmp_path / "m", config)
    written(tmp_path, Net())

    def fails(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("inpaintkit.models.weights.safetensors_bytes", fails)
        with pytest.raises(KeyboardInterrupt):
            catalog.convert(str(path), tmp_path / "m", config)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "m").mkdir()
    with pytest.raises(NotWritable, match="exists already; name a new folder"):
        catalog.convert(str(path), tmp_path / "m", config)
    with pytest.raises(NotWritable, match="does not exist; create it first"):
        catalog.convert(str(path), tmp_path / "n" / "m", config)
    assert not any((tmp_path / "m").iterdir())


def settled(tmp_path: Path, classes: int | None = 10) -> tuple[Path, Path]:
    """A folder of a small class-conditional network, and a picture with its hole as .npy."""
    import numpy as np

    catalog.convert(str(written(tmp_path, Net(classes=classes))[0]), folder := tmp_path / "m", tmp_path / "config.json")
    np.save(tmp_path / "x.npy", np.full((32, 32, 3), 90, np.uint8))
    hole = np.zeros((32, 32), bool)
    hole[8:20, 8:20] = True
    np.save(tmp_path / "hole.npy", hole)
    return folder, tmp_path / "x.npy"


def filled(capsys: Any, tmp_path: Path, *argv: object) -> tuple[int, Any, str]:
    """`inpaintkit fill` in one step: (exit code, record, what was said on stderr)."""
    from inpaintkit.apps.cli import main

    out = ["-o", str(tmp_path / "out.npy"), "--overwrite", "--json", "--quiet"]
    model, image, *options = map(str, argv)
    code = main(["fill", image, str(tmp_path / "hole.npy"), "--model", model, *out, *options, "ddim", "--steps", "1"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def test_a_class_is_asked_for_drawn_or_refused(tmp_path, capsys):
    import numpy as np

    folder, image = settled(tmp_path)
    code, record, said = filled(capsys, tmp_path, folder, image)
    assert (code, record) == (2, None)
    assert said == f"error: {folder}: is class-conditional and needs a label; pass --label N, with N from 0 to 9, or --label random\n"
    assert not (tmp_path / "out.npy").exists()
    code, _, said = filled(capsys, tmp_path, folder, image, "--label", 10)
    assert (code, "has no class 10; pass --label N, with N from 0 to 9" in said) == (2, True)
    assert filled(capsys, tmp_path, folder, image, "--label", -1)[0] == 2
    assert filled(capsys, tmp_path, folder, image, "--label", "cat")[0] == 2
    made = {}
    for label in (3, 4):
        code, record, _ = filled(capsys, tmp_path, folder, image, "--label", label)
        assert (code, record["labels"], record["options"]["label"]) == (0, [label], label)
        made[label] = np.load(tmp_path / "out.npy")
    assert not np.array_equal(made[3], made[4])


def test_a_random_class_belongs_to_the_seed_alone(tmp_path):
    import numpy as np

    from inpaintkit.methods import METHODS
    from inpaintkit.pipeline.fill import Inpainter
    from inpaintkit.pipeline.job import Options

    folder, image = settled(tmp_path)
    pipe = Inpainter.from_pretrained(str(folder), dtype="float32")
    method = replace(METHODS["ddim"], walk=replace(METHODS["ddim"].walk, steps=1))
    hole, picture = np.load(tmp_path / "hole.npy"), np.load(image)

    def fill(seed: int, variants: int, label: int | str) -> Any:
        return pipe(picture, hole, method, seed, variants, Options(label=label))

    together = fill(5, 4, "random")
    labels = together.record["labels"]
    assert len(set(labels)) > 1
    assert all(0 <= label < 10 for label in labels)
    for k, label in enumerate(labels):
        for alone in (fill(5 + k, 1, "random"), fill(5 + k, 1, label)):
            assert alone.record["labels"] == [label]
            assert np.array_equal(alone.images[0], together.images[k])


def test_windows_of_a_picture_share_its_class(tmp_path):
    from inpaintkit.models.denoisers import NetworkDenoiser, Tiled

    net = Net(classes=10)
    model = catalog.load(*written(tmp_path, net))
    g = torch.Generator().manual_seed(0)
    x, labels, corners = torch.randn(2, 3, 32, 48, generator=g), torch.tensor([7, 2]), [(0, 0), (0, 16)]
    plain = NetworkDenoiser(model.network, model.schedule, labels=labels)
    x0, _ = Tiled(plain, corners, (32, 32), torch.zeros_like(x))(x, 500)
    for b, label in enumerate(labels):
        alone = replace(plain, labels=label[None])
        left, right = (alone(x[b : b + 1, ..., j : j + 32], 500)[0] for _, j in corners)
        torch.testing.assert_close(x0[b : b + 1, ..., :16], left[..., :16])
        torch.testing.assert_close(x0[b : b + 1, ..., 32:], right[..., 16:])


def test_a_network_without_classes_takes_no_label(tmp_path, capsys):
    folder, image = settled(tmp_path, None)
    code, _, said = filled(capsys, tmp_path, folder, image, "--label", 3)
    assert (code, "is not class-conditional; leave --label away" in said) == (2, True)
    code, record, _ = filled(capsys, tmp_path, folder, image)
    assert (code, record["labels"]) == (0, None)


def test_the_commands_convert_describe_and_check_and_a_published_file_fills_directly(tmp_path, capsys, monkeypatch):
    from inpaintkit.apps.cli import main
    from inpaintkit.models import foreign

    net = Net()
    path, config = written(tmp_path, net)
    assert main(["models", "convert", str(path), str(tmp_path / "made"), "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'made'}\n"
    assert main(["models", "check", str(tmp_path / "made")]) == 0
    assert main(["models", "info", str(tmp_path / "made")]) == 0
    assert "Converted by `inpaintkit models convert` from `some.pt`" in capsys.readouterr().out
    assert main(["models", "convert", str(path), str(tmp_path / "made"), "--config", str(config)]) == 6
    assert main(["models", "convert", str(path), str(tmp_path / "other")]) == 3
    assert not (tmp_path / "other").exists()
    monkeypatch.setitem(foreign.PUBLISHED, "some", json.loads(config.read_text()))
    _, image = settled(tmp_path, None)
    written(tmp_path, net)
    monkeypatch.chdir(tmp_path)
    code, record, _ = filled(capsys, tmp_path, "some.pt", image)
    assert (code, record["model"], record["request"]["model"]) == (0, "some.pt", str(tmp_path / "some.pt"))


DDPM = {  # config.json and scheduler_config.json of google/ddpm-celebahq-256, narrower
    **{"_class_name": "UNet2DModel", "_diffusers_version": "0.1.1", "act_fn": "silu", "attention_head_dim": None},
    **{"block_out_channels": [32, 32, 64], "center_input_sample": False, "downsample_padding": 0, "flip_sin_to_cos": False},
    **{"down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"], "freq_shift": 1, "in_channels": 3, "layers_per_block": 2},
    **{"mid_block_scale_factor": 1, "norm_eps": 1e-06, "norm_num_groups": 32, "out_channels": 3, "sample_size": 32},
    **{"time_embedding_type": "positional", "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]},
}
SCHEDULER = {
    **{"_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001},
    **{"clip_sample": True, "num_train_timesteps": 1000, "timestep_values": None, "trained_betas": None, "variance_type": "fixed_small"},
}


def hub_folder(path: Path, places: tuple[str, str] = ("", "")) -> Path:
    """A folder as on the hub, with the network and the scheduler at the top or in subfolders."""
    for place, name, values in zip(places, ("config.json", "scheduler_config.json"), (DDPM, SCHEDULER), strict=True):
        (path / place).mkdir(parents=True, exist_ok=True)
        (path / place / name).write_text(json.dumps(values))
    torch.manual_seed(0)
    made = UNet2DModel(**{key: value for key, value in DDPM.items() if not key.startswith("_")})
    made.save_pretrained(path / places[0])
    (path / places[0] / "config.json").write_text(json.dumps(DDPM))
    return path


@pytest.mark.parametrize("places", [("", ""), ("unet", "scheduler")])
def test_a_hub_folder_loads_with_its_own_noise_levels_and_default_method(tmp_path, places):
    folder = hub_folder(tmp_path / "ddpm", places)
    model = catalog.load(folder)
    assert torch.equal(model.schedule.alpha_bar, linear(1000, 1e-4, 2e-2).alpha_bar)
    assert model.network.config.default_method == NetworkConfig().default_method
    x, t, _ = inputs(Net())
    with torch.no_grad():
        assert torch.equal(answer(model, x, t, None), UNet2DModel.from_pretrained(folder / places[0])(x, t).sample)


@pytest.mark.parametrize("pickled", [True, False])
def test_a_hub_id_that_has_pickles_only_is_refused_with_what_to_do(tmp_path, monkeypatch, pickled):
    import huggingface_hub

    folder = hub_folder(tmp_path / "ddpm")
    if pickled:
        (folder / "diffusion_pytorch_model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, allow_patterns, local_files_only: str(folder))
    if pickled:
        with pytest.raises(
            BadInput, match=r"google/ddpm-x: the hub has no safetensors weights.*from_pretrained\('google/ddpm-x'\).save_pretrained"
        ):
            catalog.load("google/ddpm-x")
    else:
        assert catalog.load("google/ddpm-x").name == "google/ddpm-x"


def test_a_folder_of_a_class_conditional_diffusers_network_is_told_the_class(tmp_path):
    from inpaintkit.models.checkpoints import load_folder

    folder = hub_folder(tmp_path / "ddpm")
    values = DDPM | {"num_class_embeds": 4}
    made = UNet2DModel(**{key: value for key, value in values.items() if not key.startswith("_")}).eval()
    made.save_pretrained(folder)
    network, _, _ = load_folder(folder)
    assert classes(network) == 4
    x, t, labels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 5]), torch.tensor([1, 3])
    with torch.no_grad():
        assert torch.equal(network(x, t, x[:, :1], x, labels), made(x, t, labels).sample)
    (folder / "config.json").write_text(json.dumps(DDPM | {"class_embed_type": "timestep"}))
    with pytest.raises(BadInput, match="class_embed_type = 'timestep' is not supported; only num_class_embeds is"):
        load_folder(folder)


STEP = """
import json, resource, sys, time
from pathlib import Path
import torch
from inpaintkit.models import catalog
from inpaintkit.models.denoisers import NetworkDenoiser
clock = lambda: (time.perf_counter(), time.process_time())
since = lambda begin: [now - then for now, then in zip(clock(), begin)]
begin = clock()
if sys.argv[1] == "convert":
    model = catalog.convert(sys.argv[2], Path(sys.argv[3]))
else:
    model = catalog.load(sys.argv[2])
loaded, begin = since(begin), clock()
count = sum(p.numel() for p in model.network.parameters())
if sys.argv[1] == "step":
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x0, spread = NetworkDenoiser(model.network, model.schedule)(x, 1000)
    assert x0.isfinite().all() and spread.shape == x.shape
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"parameters": count, "load": loaded, "step": since(begin), "peak": peak}))
"""


@pytest.mark.slow
def test_a_full_size_network_converts_and_runs_one_step_within_memory(tmp_path):
    """RePaint's 256 px network with random weights: 2.2 GB of them; twice that is allowed for a step, three times for conversion."""
    import subprocess
    import sys

    path = tmp_path / "celeba256_250000.pt"
    torch.save(LARGE.weights(), path)
    size = path.stat().st_size / 2**30
    for job, source, allowed in (("convert", path, 3.2), ("step", path, 2.2), ("step", tmp_path / "m", 2.2)):
        out = subprocess.run([sys.executable, "-c", STEP, job, source, tmp_path / "m"], capture_output=True, text=True, check=False)
        assert out.returncode == 0, out.stderr
        found = json.loads(out.stdout)
        spent = " ".join("{} {:.1f} s ({:.1f} s of a core)".format(part, *found[part]) for part in ("load", "step"))
        print(f"{job} {source.name}: {spent}, peak {found['peak']:.2f} GiB, file {size:.2f} GiB")
        assert found["parameters"] == 552_814_086
        assert found["peak"] < allowed * size + 0.7  # torch and diffusers themselves take half a GiB
