"""Networks of `--features FILE`: any classifier known here, recognised by the names and shapes of its weights.

What is measured with one carries the file's name: it is neither LPIPS nor FID, and only comparable with itself.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from inpaintkit.core.errors import BadInput
from inpaintkit.evaluate.features import Fire, alex, differences, pool, squeeze, vgg
from inpaintkit.models.backbones import Maps, mobilenet_v2
from inpaintkit.models.tensors import COUNTER, fit, read_tensors, shapes

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures in [0, 1]."""


def squeezenet1_0() -> Maps:
    """SqueezeNet 1.0 (Iandola et al. 2016, table 1)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 7, 2), nn.ReLU(), pool(True), Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128)]
    layers += [pool(True), Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), pool(True), Fire(512, 64, 256)]
    return Maps(layers, (1, 4, 6, 9, 12), (96, 128, 256, 384, 512))


class Extractor(nn.Module):
    """Pictures `(B, 3, H, W)` in [-1, 1] -> (maps for a perceptual distance, pooled features `(B, D)`)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, maps: Maps, stages: int, normalised: bool = True):
        super().__init__()
        self.maps, self.stages = maps, stages
        centre, spread = (MEAN, DEVIATION) if normalised else ((0.5,) * 3, (0.5,) * 3)
        self.register_buffer("shift", torch.tensor(centre)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(spread)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = self.maps(((x + 1) / 2 - self.shift) / self.scale)
        return maps[: self.stages], maps[-1].mean((2, 3))


EXTRACTORS: dict[str, Callable[[], Extractor]] = {
    "mobilenet_v2": lambda: Extractor(mobilenet_v2(), 5, normalised=False),
    "squeezenet1_0": lambda: Extractor(squeezenet1_0(), 5),
    "squeezenet1_1": lambda: Extractor(squeeze(), 7),
    "alexnet": lambda: Extractor(alex(), 5),
    "vgg16": lambda: Extractor(vgg(), 5),
}
"""Network -> its extractor. MobileNetV2's pooled features come from its last layer, which is no stage."""


@dataclass(frozen=True)
class Features:
    """An extractor with the weights of a file."""

    name: str
    """What tables call it: the file's name without suffix."""
    network: str
    """Key of `EXTRACTORS`."""
    sha256: str
    """Of the file."""
    extract: Extractor

    def differences(self, one: Tensor, other: Tensor) -> list[Tensor]:
        """Maps of the difference of two batches of pictures, for a perceptual distance; as `features.LPIPS` gives them."""
        return differences(self.extract(one)[0], self.extract(other)[0])


def load(path: Path) -> Features:
    """The extractor whose weights a file holds, of safetensors or torch.save; its classifier may be there and is not used.

    Raises `BadInput` for a file that is none, and for weights of another network.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a file with the weights of {' or '.join(EXTRACTORS)}")
    tensors = {k: v for k, v in read_tensors(path, COUNTER).items() if not k.startswith("classifier.")}
    for name, make in EXTRACTORS.items():
        with torch.device("meta"):
            needed = shapes(make().maps.state_dict())
        if shapes(tensors) == needed:
            extract = make()
            fit(extract.maps, tensors, path)
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Features(path.stem, name, sha256, extract.eval().requires_grad_(False))
    raise BadInput(f"{path}: its {len(tensors)} weights are of no network known here; those of {', '.join(EXTRACTORS)} are")
