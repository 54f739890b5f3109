"""Feature networks of the field's metrics as plain modules, whose state dicts are those of the public weight files.

No weights are bundled and none are fetched: `load` says which file to get and where it looks for it.

| name       | what                                                     | source                                                    |
|------------|----------------------------------------------------------|-----------------------------------------------------------|
| alex       | AlexNet, one-column form, five maps                      | Krizhevsky 2014; LPIPS (Zhang et al. 2018)                |
| vgg        | VGG-16, five maps                                        | Simonyan and Zisserman 2015; LPIPS                        |
| squeeze    | SqueezeNet 1.1, seven maps                               | Iandola et al. 2016; LPIPS                                |
| inception  | Inception v3 as converted from the 2015 TensorFlow graph | Szegedy et al. 2016; FID (Heusel et al. 2017)             |
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.errors import BadInput
from inpaintkit.evaluate.inception import Inception
from inpaintkit.models.tensors import read_tensors


@dataclass(frozen=True)
class Weights:
    """A public weight file."""

    file: str
    url: str


WEIGHTS = {
    "alex": Weights("alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/"),
    "vgg": Weights("vgg16-397923af.pth", "https://download.pytorch.org/models/"),
    "squeeze": Weights("squeezenet1_1-b8a52dc0.pth", "https://download.pytorch.org/models/"),
    "inception": Weights("pt_inception-2015-12-05-6726825d.pth", "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"),
}
HEADS = "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/"
"""Folder of the linear heads of LPIPS 0.1: alex.pth, vgg.pth, squeeze.pth."""


def folder() -> Path:
    """Where weight files are looked for: $INPAINTKIT_WEIGHTS, else `~/.cache/inpaintkit`."""
    return Path(os.environ.get("INPAINTKIT_WEIGHTS") or Path.home() / ".cache" / "inpaintkit")


def found(file: str, url: str, where: Path | None = None) -> Path:
    """The weight file. Raises `BadInput` naming the file to get and where it is looked for."""
    path = (where or folder()) / file
    if not path.is_file():
        raise BadInput(f"{path}: no such file; get {url}{file} and put it there, or set INPAINTKIT_WEIGHTS to its folder")
    return path


def _pooled(ceil: bool = False, size: int = 3) -> nn.MaxPool2d:
    return nn.MaxPool2d(size, 2, ceil_mode=ceil)


class Maps(nn.Module):
    """A classifier's feature part, cut into stages. Input `(B, 3, H, W)` in [-1, 1]; returns one map for each stage."""

    ends: Sequence[int]
    """Number of the layer after which each stage's map is taken."""
    widths: Sequence[int]
    """Channels of the maps."""

    def __init__(self, layers: Sequence[nn.Module], ends: Sequence[int], widths: Sequence[int]):
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.ends, self.widths = tuple(ends), tuple(widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                maps.append(x)
            if i == self.ends[-1]:
                break
        return maps


class Fire(nn.Module):
    """SqueezeNet's module."""

    def __init__(self, inputs: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1, self.expand3x3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


def alex() -> Maps:
    def conv(inputs: int, outputs: int, size: int, stride: int, padding: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, size, stride, padding), nn.ReLU()]

    layers = [*conv(3, 64, 11, 4, 2), _pooled(), *conv(64, 192, 5, 1, 2), _pooled()]
    layers += [*conv(192, 384, 3, 1, 1), *conv(384, 256, 3, 1, 1), *conv(256, 256, 3, 1, 1), _pooled()]
    return Maps(layers, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256))


def vgg() -> Maps:
    layers: list[nn.Module] = []
    inputs = 3
    for count, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(_pooled(size=2))
    return Maps(layers, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512))


def squeeze() -> Maps:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), _pooled(True), Fire(64, 16, 64), Fire(128, 16, 64), _pooled(True)]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), _pooled(True), Fire(256, 48, 192), Fire(384, 48, 192)]
    layers += [Fire(384, 64, 256), Fire(512, 64, 256)]
    return Maps(layers, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512))


BACKBONES = {"alex": alex, "vgg": vgg, "squeeze": squeeze}


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1 (Zhang et al. 2018, eq. 1): pictures `(B, 3, H, W)` in [-1, 1].

    Returns one map `(B, 1, h, w)` for each stage; `distance` makes numbers of them.
    """

    def __init__(self, backbone: Maps):
        super().__init__()
        self.net = backbone
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in backbone.widths)
        self.shift, self.scale = torch.tensor([-0.030, -0.088, -0.188])[:, None, None], torch.tensor([0.458, 0.448, 0.450])[:, None, None]

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        pairs = zip(*(self.net((x - self.shift.to(x)) / self.scale.to(x)) for x in (a, b)), strict=True)
        return [head((_unit(p) - _unit(q)).square()) for head, (p, q) in zip(self.heads, pairs, strict=True)]


def distance(maps: Sequence[Tensor], region: Tensor | None = None) -> Tensor:
    """`(B,)`: mean over positions of each map, summed over maps. With a region `(B, 1, H, W)` in {0, 1} only positions whose
    cell touches it count: the same number as published LPIPS for the whole picture only."""
    total = torch.zeros(len(maps[0]), device=maps[0].device)
    for part in maps:
        weight = torch.ones_like(part) if region is None else F.adaptive_max_pool2d(region, part.shape[2:])
        total = total + (part * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)
    return total


def lpips(name: str, where: Path | None = None) -> LPIPS:
    """LPIPS on the backbone `alex`, `vgg` or `squeeze` with its public weights. Raises `BadInput`."""
    network = LPIPS(BACKBONES[name]())
    trunk, heads = found(WEIGHTS[name].file, WEIGHTS[name].url, where), found(f"{name}.pth", HEADS, where)
    _fill(network.net, {k: v for k, v in read_tensors(trunk).items() if k.startswith("features.")}, trunk)
    _fill(network.heads, {k.replace("lin", "").replace(".model.1", ""): v for k, v in read_tensors(heads).items()}, heads)
    return network.eval().requires_grad_(False)


def inception(where: Path | None = None) -> Inception:
    """The standard network of FID with its public weights. Raises `BadInput`."""
    path = found(WEIGHTS["inception"].file, WEIGHTS["inception"].url, where)
    network = Inception()
    _fill(network, {k: v for k, v in read_tensors(path).items() if not k.startswith("fc.")}, path)
    return network.eval().requires_grad_(False)


def _fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    expected = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    tensors = {k: v.float() for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    if tensors.keys() != expected.keys() or any(tensors[k].shape != expected[k].shape for k in expected):
        raise BadInput(f"{path}: holds other weights than expected ({len(tensors)} tensors, {len(expected)} needed); get the file again")
    network.load_state_dict(tensors, strict=False)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)  # LPIPS's own small number
