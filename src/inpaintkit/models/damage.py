"""The mask predictor: a U-Net on the features of a classifier, MobileNetV2, that says for every pixel how likely it is damaged.

Everything in it is local (convolutions, and batch norm, whose statistics are fixed after training), so a large picture in
overlapping tiles gives what it would give in one piece, and memory does not grow with the picture.

    folder/damage.json (our `DetectorConfig`), folder/model.safetensors, folder/README.md (model card)
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.errors import BadInput
from inpaintkit.core.files import write_bytes
from inpaintkit.core.settings import Settings, dumped
from inpaintkit.models import catalog
from inpaintkit.models.backbones import mobilenet_v2
from inpaintkit.models.checkpoints import checked_config, read_json
from inpaintkit.models.tensors import COUNTER, fit, read_tensors, shapes
from inpaintkit.models.weights import read_weights, sha256, weights_bytes

CONFIG, WEIGHTS = "damage.json", "model.safetensors"
Cut = Callable[[int, int, int, int], Tensor]


@dataclass(frozen=True)
class DetectorConfig(Settings):
    """What builds the network, and how it is used."""

    widths: Annotated[tuple[Annotated[int, Field(ge=4, le=1024)], ...], Field(min_length=1, max_length=6)] = (16, 32, 48, 64, 96)
    """Channels of the answering half at each resolution, that of the picture first; each is half of the one before."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """A pixel more likely damaged than this is called so, unless the user says otherwise."""
    reach: Annotated[int, Field(ge=16, le=1024)] = 208
    """Pixels that tiles see beyond what they answer for."""
    coarsest: Annotated[int, Field(ge=1, le=64)] = 1
    """Large pictures are also looked at reduced by 2, 4 ... up to this, for damage larger than any it was trained on."""

    @property
    def multiple(self) -> int:
        """Height and width of the network's input are multiples of this."""
        return int(2 ** (len(self.widths) - 1))


class DamageNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) whose contracting half is MobileNetV2, skip connections added after a 1x1 convolution.

    Its weights may be those of the published classifier (`start_from`), which knows what is usual in pictures: with them a tenth
    of the training does. Its finest map has half the picture's size, too coarse for scratches, so `fine` looks at the picture
    itself and at its `cues`. The answering half is of residual blocks with batch norm (He et al. 2016).
    """

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.config = config
        widths, depth = config.widths, len(config.widths) - 1
        trunk = mobilenet_v2()
        self.ends, found = trunk.ends[:depth], trunk.widths[:depth]
        self.trunk = nn.ModuleList(list(trunk.features)[: self.ends[-1] + 1 if depth else 0])
        self.fine = nn.Sequential(Unit(3 + CUES, widths[0]), Block(widths[0]))
        self.finer = Unit(widths[0], widths[1], 2) if depth else None
        pairs = zip(found, widths[1:], strict=True)
        self.skips = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 1, bias=False), BatchNorm(b)) for a, b in pairs)
        self.up = nn.ModuleList(Block(width) for width in widths)
        self.larger = nn.ModuleList(nn.Conv2d(deep, 4 * wide, 1) for wide, deep in pairwise(widths))
        self.last = nn.Conv2d(widths[0], 1, 3, padding=1)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, -1.0)  # most pixels are whole
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.4 times as fast here, on a CPU too

    def start_from(self, path: Path) -> None:
        """Take the classifier's weights from a file (safetensors or torch.save, as `--features` takes it). Raises `BadInput`."""
        if not path.is_file():
            raise BadInput(f"{path}: no such file; MobileNetV2's weights are needed, or leave task.trunk away")
        whole = mobilenet_v2()
        given = {name: value for name, value in read_tensors(path, COUNTER).items() if not name.startswith("classifier.")}
        if shapes(given) != shapes(whole.state_dict()):
            how = "its batch norms must be folded into the convolutions, and its tensors named as `inpaintkit eval --features` wants them"
            raise BadInput(f"{path}: holds no MobileNetV2 of this form; {how}")
        fit(whole, given, path)
        self.trunk.load_state_dict(whole.features[: len(self.trunk)].state_dict())

    def forward(self, picture: Tensor) -> Tensor:
        """Logits `(B, 1, H, W)` of a pixel being damaged; picture `(B, 3, H, W)` in [-1, 1], of any size."""
        h, w = picture.shape[2:]
        unit = self.config.multiple
        padded = F.pad(picture, (0, -w % unit, 0, -h % unit), "replicate")
        x = padded.contiguous(memory_format=torch.channels_last)
        skips = [self.fine(torch.cat([x, cues(padded)], 1).contiguous(memory_format=torch.channels_last))]
        for i, layer in enumerate(self.trunk):
            x = layer(x)
            if i in self.ends:
                skip = self.skips[len(skips) - 1](x)
                skips.append(F.relu(skip + self.finer(skips[0]) if self.finer and len(skips) == 1 else skip))
        x = self.up[-1](skips[-1])
        for i in reversed(range(len(self.larger))):
            x = self.up[i](skips[i] + F.pixel_shuffle(self.larger[i](x), 2))
        return self.last(x)[..., :h, :w]


WINDOWS = (5, 17)
"""Sides of the squares over which roughness is measured, pixels."""
LINES = (3, 7)
"""Sides of the squares into which a line does not fit that stands out, pixels."""
CUES = len(WINDOWS) + 2 * len(LINES) + 1


def cues(picture: Tensor) -> Tensor:
    """What tells damage from a picture close by, `(B, CUES, H, W)`, so that it need not be learnt; picture `(B, 3, H, W)`.

    Roughness, about -1 (a constant) to 1.5 (noise): logarithms of the mean square difference from the mean of the nearest nine
    pixels, over `WINDOWS`; paint, blur, mosaic and noise differ in it. Bright and dark lines thinner than each of `LINES`: the
    white and the black top-hat (Serra 1982), the largest over the colours. And the range of the nearest nine pixels' values.
    """
    with torch.autocast(picture.device.type, enabled=False):  # small differences of large values
        values = picture.float()
        energy = (values - _mean(values, 3)).square().mean(1, keepdim=True)
        found = [torch.log(_mean(energy, side) + 1e-5) / 4 + 1.5 for side in WINDOWS]
        for side in LINES:
            low, high = -_highest(-values, side), _highest(values, side)
            found += [2 * (values - _highest(low, side)).amax(1, keepdim=True), 2 * (-_highest(-high, side) - values).amax(1, keepdim=True)]
        found.append(2 * (_highest(values, 3) + _highest(-values, 3)).mean(1, keepdim=True))
        return torch.cat(found, 1).to(picture.dtype)


def _mean(x: Tensor, side: int) -> Tensor:
    """Over the square around each pixel, as far as it lies inside; rows first, then columns, which is faster."""
    rows = F.avg_pool2d(x, (1, side), 1, (0, side // 2), count_include_pad=False)
    return F.avg_pool2d(rows, (side, 1), 1, (side // 2, 0), count_include_pad=False)


def _highest(x: Tensor, side: int) -> Tensor:
    """Over the square around each pixel, as far as it lies inside: what `max_pool2d` gives, several times as fast on a CPU."""
    for dim, padding in ((3, (side // 2,) * 2), (2, (0, 0, side // 2, side // 2))):
        count, padded = x.shape[dim], F.pad(x, padding, value=float("-inf"))
        x = padded.narrow(dim, 0, count)
        for i in range(1, side):
            x = torch.maximum(x, padded.narrow(dim, i, count))
    return x


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015). torch's layer also saves an integer, the number of batches seen, which nothing
    here asks for and which files of weights in one floating-point type cannot hold."""

    def __init__(self, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)  # type: ignore[arg-type]


class Unit(nn.Sequential):
    """relu(norm(conv(x)))."""

    def __init__(self, width: int, out: int, stride: int = 1):
        super().__init__(nn.Conv2d(width, out, 3, stride, 1, bias=False), BatchNorm(out), nn.ReLU())


class Block(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, width: int):
        super().__init__()
        self.one = Unit(width, width)
        self.two = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), BatchNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.two(self.one(x)))


def build(config: DetectorConfig, seed: int) -> DamageNet:
    """A fresh network, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):  # the generator is global inside torch's layers
        torch.manual_seed(seed)
        return DamageNet(config)


@dataclass(frozen=True)
class Detector:
    """A loaded mask predictor and where it came from."""

    name: str
    network: DamageNet
    sha256: str

    def to(self, device: torch.device, dtype: torch.dtype) -> "Detector":
        network = self.network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Detector(self.name, network, self.sha256)

    @torch.no_grad()
    def likelihood(self, cut: Cut, size: tuple[int, int], side: int = 1024) -> np.ndarray:
        """How likely each pixel of a picture of `size` (W, H) is damaged: (H, W) float32 in [0, 1].

        `cut(x0, y0, x1, y1)` gives a window of the picture, `(1, 3, h, w)` in [-1, 1]. The network sees one tile of `side`
        pixels and the surroundings at a time, so memory grows with the answer only.
        """
        found, factor = self._native(cut, size, side), 2
        while factor <= self.network.config.coarsest and min(size) >= factor * self.network.config.multiple:
            found = np.maximum(found, self._reduced(cut, size, side, factor))
            factor *= 2
        return found

    def _native(self, cut: Cut, size: tuple[int, int], side: int) -> np.ndarray:
        (w, h), config = size, self.network.config
        weights = next(self.network.parameters())
        found = np.empty((h, w), np.float32)
        reach = -(-config.reach // config.multiple) * config.multiple  # all tiles begin at multiples: the same pixels share a position
        side = -(-side // config.multiple) * config.multiple
        for top in range(0, h, side):
            for left in range(0, w, side):
                box = max(left - reach, 0), max(top - reach, 0), min(left + side + reach, w), min(top + side + reach, h)
                tile = cut(*box).to(weights.device, weights.dtype)
                part = self.network(tile).float().sigmoid()[0, 0].cpu().numpy()
                found[top : top + side, left : left + side] = part[top - box[1] :, left - box[0] :][:side, :side]
        return found

    def _reduced(self, cut: Cut, size: tuple[int, int], side: int, factor: int) -> np.ndarray:
        """The likelihood found in the picture reduced by `factor`, enlarged again."""
        w, h = size

        def smaller(x0: int, y0: int, x1: int, y1: int) -> Tensor:
            window = cut(x0 * factor, y0 * factor, min(x1 * factor, w), min(y1 * factor, h))
            return F.avg_pool2d(window, factor, ceil_mode=True, count_include_pad=False)

        small = torch.from_numpy(self._native(smaller, (-(-w // factor), -(-h // factor)), side))
        large = F.interpolate(small[None, None], scale_factor=factor, mode="bilinear")[0, 0, :h, :w]
        return large.numpy()


def save_folder(folder: Path, network: DamageNet, card: str, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a detector's folder, the weights last. Raises `NotWritable`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / CONFIG, (json.dumps(dumped(network.config), indent=1) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())
    tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in network.state_dict().items()}
    write_bytes(folder / WEIGHTS, weights_bytes(tensors))


def is_detector(name: str) -> bool:
    """Whether a bundled name, folder or hub id is a detector's. Raises `UsageError` or `BadInput` for an unknown one."""
    return name in catalog.DETECTORS or (catalog.locate(name) / CONFIG).is_file()


def load(name: str = catalog.DETECTOR) -> Detector:
    """A detector (float32, on the CPU) by its bundled name, folder or hub id. Raises `UsageError` or `BadInput`, one line."""
    folder = catalog.locate(name)
    if not folder.exists():  # a bundled name that is not in this installation
        how = "use --how ilvr, or train one with `inpaintkit train recipes/damage.toml` and name its folder with --detector"
        raise BadInput(f"{name}: no detector of damage by this name is installed; {how}")
    if not (folder / CONFIG).is_file():
        raise BadInput(f"{folder}: is no detector of damage, it has no {CONFIG}; name the folder that training one wrote")
    config = checked_config(DetectorConfig, folder / CONFIG, read_json(folder / CONFIG))
    with torch.device("meta"):
        network = DamageNet(config)
    network.load_state_dict(read_weights(folder / WEIGHTS, network.state_dict()), assign=True)
    digest = sha256(folder / WEIGHTS)
    catalog.check_bundled(name, digest)
    return Detector(name, network.eval().requires_grad_(False), digest)
