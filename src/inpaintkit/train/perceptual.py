"""A perceptual loss: how far a fill is from the truth by the features of a classifier."""

from pathlib import Path

import torch
from torch import Tensor, nn

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.evaluate import extractors
from inpaintkit.evaluate.extractors import Extractor
from inpaintkit.evaluate.features import SMALLEST, differences, distance


def extractor(path: Path) -> Extractor:
    """The classifier whose weights a file holds: those that `inpaintkit eval --features` takes. Raises `BadInput`."""
    try:
        return extractors.load(path).extract
    except BadInput as error:
        raise BadInput(f"task.features: {error}") from None


def check(sides: set[int]) -> None:
    """Raise `UsageError` for pictures so small that a classifier has not all of its maps."""
    if min(sides) < SMALLEST:
        raise UsageError(f"task.features: classifiers need pictures of {SMALLEST} x {SMALLEST} or more; data.batches has {min(sides)}")


def loss(extract: nn.Module, made: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Distance of unit-length features where they look into the hole (Zhang et al. 2018, eq. 1, every channel of weight 1), a mean
    over the batch. extract: an `extractor`; made, truth `(B, 3, H, W)` in [-1, 1], known `(B, 1, H, W)`. In float32: differences
    of features are small.
    """
    with torch.autocast(made.device.type, enabled=False):
        with torch.no_grad():
            wanted, _ = extract(truth.float())
        found, _ = extract(made.float())
        return distance(differences(found, wanted), 1 - known.float()).mean()
