"""Feature networks of the field's metrics as plain modules, whose state dicts are those of the public weight files.

No weights are bundled and none are fetched: `found` says which file to get and where it looks for it. (The linear heads of LPIPS
also come with torchmetrics.) The network of FID is in `inception.py`, networks of `--features` in `extractors.py`.

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
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.errors import BadInput
from inpaintkit.evaluate.inception import Inception
from inpaintkit.models.backbones import Maps
from inpaintkit.models.tensors import COUNTER, fit, read_tensors


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
SMALLEST = 32
"""Shorter side, pixels, from which every network here has all of its maps."""


def folder() -> Path:
    """Where weight files are looked for: $INPAINTKIT_WEIGHTS, else `~/.cache/inpaintkit`."""
    return Path(os.environ.get("INPAINTKIT_WEIGHTS") or Path.home() / ".cache" / "inpaintkit")


def found(file: str, url: str, where: Path | None = None) -> Path:
    """The weight file. Raises `BadInput` naming the file to get and where it is looked for."""
    path = (where or folder()) / file
    if not path.is_file():
        raise BadInput(f"{path}: no such file; get {url}{file} and put it there, or set INPAINTKIT_WEIGHTS to its folder")
    return path


def heads_file(name: str, where: Path | None = None) -> Path:
    """The linear heads of LPIPS on a backbone: the file in the folder, else its copy in torchmetrics. Raises `BadInput`."""
    installed = find_spec("torchmetrics")
    bundled = (
        Path((installed and installed.origin) or "torchmetrics/__init__.py").with_name("functional") / f"image/lpips_models/{name}.pth"
    )
    own = (where or folder()) / f"{name}.pth"
    return bundled if bundled.is_file() and not own.is_file() else found(own.name, HEADS, where)


def pool(ceil: bool = False, size: int = 3) -> nn.MaxPool2d:
    """Maximum of `size` x `size` positions, half as many each way."""
    return nn.MaxPool2d(size, 2, ceil_mode=ceil)


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

    layers = [*conv(3, 64, 11, 4, 2), pool(), *conv(64, 192, 5, 1, 2), pool()]
    layers += [*conv(192, 384, 3, 1, 1), *conv(384, 256, 3, 1, 1), *conv(256, 256, 3, 1, 1), pool()]
    return Maps(layers, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256))


def vgg() -> Maps:
    layers: list[nn.Module] = []
    inputs = 3
    for count, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(pool(size=2))
    return Maps(layers, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512))


def squeeze() -> Maps:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(True), Fire(64, 16, 64), Fire(128, 16, 64), pool(True)]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), pool(True), Fire(256, 48, 192), Fire(384, 48, 192)]
    layers += [Fire(384, 64, 256), Fire(512, 64, 256)]
    return Maps(layers, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512))


BACKBONES = {"alex": alex, "vgg": vgg, "squeeze": squeeze}
PERCEPTUAL = {f"lpips_{name}": name for name in BACKBONES}
"""Metric -> its backbone."""


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1 (Zhang et al. 2018, eq. 1): pictures `(B, 3, H, W)` in [-1, 1], sides of `SMALLEST` or more.

    Returns one map `(B, 1, h, w)` for each stage; `distance` makes numbers of them.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Maps):
        super().__init__()
        self.net = backbone
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in backbone.widths)
        # ImageNet's mean and standard deviation for pictures in [-1, 1], rounded as LPIPS does
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        first, second = (self.net((x - self.shift) / self.scale) for x in (a, b))
        return [head(part) for head, part in zip(self.heads, differences(first, second), strict=True)]


def differences(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    """Squared differences of unit-length feature vectors, for each pair of maps `(B, C, h, w)`."""
    return [(_unit(p) - _unit(q)).square() for p, q in zip(a, b, strict=True)]


def distance(maps: Sequence[Tensor], region: Tensor | None = None) -> Tensor:
    """`(B,)`: channels summed, averaged over positions, summed over maps `(B, C, h, w)`. With a region `(B, 1, H, W)` in {0, 1}
    only positions whose cell touches it count, and a picture without any is NaN; published LPIPS is the one of the whole picture."""
    total = torch.zeros(len(maps[0]), dtype=maps[0].dtype, device=maps[0].device)
    for part in maps:
        part = part.sum(1, keepdim=True)
        weight = torch.ones_like(part) if region is None else F.adaptive_max_pool2d(region.to(part), part.shape[2:])
        total = total + (part * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    return total


def lpips_files(name: str, where: Path | None = None) -> tuple[Path, Path]:
    """The backbone's weights and the linear heads. Raises `BadInput`."""
    return found(WEIGHTS[name].file, WEIGHTS[name].url, where), heads_file(name, where)


def lpips(name: str, where: Path | None = None) -> LPIPS:
    """LPIPS on the backbone `alex`, `vgg` or `squeeze` with its public weights. Raises `BadInput`."""
    network = LPIPS(BACKBONES[name]())
    trunk, heads = lpips_files(name, where)
    fit(network.net, {k: v for k, v in read_tensors(trunk).items() if k.startswith("features.")}, trunk)
    fit(network.heads, {k.replace("lin", "").replace(".model.1", ""): v for k, v in read_tensors(heads).items()}, heads)
    return network.eval().requires_grad_(False)


def inception_file(where: Path | None = None) -> Path:
    """Inception's weights. Raises `BadInput`."""
    return found(WEIGHTS["inception"].file, WEIGHTS["inception"].url, where)


def inception(where: Path | None = None) -> Inception:
    """The standard network of FID with its public weights. Raises `BadInput`."""
    path = inception_file(where)
    network = Inception()
    fit(network, {k: v for k, v in read_tensors(path, leave_out=COUNTER).items() if not k.startswith("fc.")}, path)
    return network.eval().requires_grad_(False)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)  # LPIPS's own small number
