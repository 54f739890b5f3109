"""How far the results of a way are from the truths as sets, by mask: FID and KID, and the same on the features that a suite names."""

import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.evaluate import extractors, features, sets
from inpaintkit.evaluate.extractors import Features
from inpaintkit.evaluate.figures import Figure
from inpaintkit.evaluate.inception import clean
from inpaintkit.evaluate.results import Results
from inpaintkit.models.weights import sha256

Pooled = Callable[[Tensor], Tensor]
"""A picture `(3, H, W)` in [-1, 1] -> its features `(D,)`."""
Distances = dict[tuple[str, str], Figure]
"""(cell, mask) -> the distance."""


def distances(results: Results) -> tuple[dict[str, Distances], list[str]]:
    """(what tables call it -> distances of whole pictures from the truths, of the first seed; of what is left out a line that says why).

    "KID" with its 95 % interval and "FID", of `sets.LEAST` pictures or more, by Inception's features where the suite asks for them;
    by those of a file KID's distance is called kernel[its name]. Weights that are gone, or not those of the run, are left out.
    """
    suite, found, left = results.about["suite"], dict[str, Distances](), list[str]()
    expected = {Path(file).name: sha for file, sha in results.about.get("files", {}).items()}
    if asked := [name for name in sets.NAMES if name in suite["metrics"]]:
        try:
            pairs = _pairs(results, _inception(expected))
            found |= {name.upper(): {key: _figure(name, *pair) for key, pair in pairs.items()} for name in asked}
        except BadInput as error:
            left.append(f"{', '.join(asked).upper()}: {error}")
    for file in suite.get("features", ()):
        try:
            by = extractors.load(Path(file))
            _same(Path(file), by.sha256, expected)
            found[f"kernel[{by.name}]"] = {key: _figure("kid", *pair) for key, pair in _pairs(results, _pooled(by)).items()}
        except BadInput as error:
            left.append(f"kernel[{Path(file).stem}]: {error}")
    return found, left


def _figure(name: str, real: np.ndarray, fake: np.ndarray) -> Figure:
    if name == "kid":
        return Figure(*(sets.kernel(real, fake) if len(real) else (math.nan,) * 3), len(real))
    return Figure(math.nan if sets.too_few(len(real)) else sets.frechet(real, fake), math.nan, math.nan, len(real))


def _inception(expected: Mapping[str, str]) -> Pooled:
    path, network = features.inception_file(), features.inception()
    _same(path, sha256(path), expected)
    return lambda picture: network(clean(picture)[None])[0]


def _pooled(by: Features) -> Pooled:
    return lambda picture: by.extract(picture[None])[1][0]


def _same(path: Path, found: str, expected: Mapping[str, str]) -> None:
    """Raise `BadInput` for weights that are not those the rows were measured with."""
    if expected.get(path.name, found) != found:
        raise BadInput(f"{path}: holds other weights than the run was measured with; put those back")


@torch.no_grad()
def _pairs(results: Results, pooled: Pooled) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """(cell, mask) -> features of the truths and of the results, `(N, D)` each; every picture is looked at once."""

    @cache
    def of(file: str) -> np.ndarray:
        picture = torch.from_numpy(results.array(file).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
        return np.asarray(pooled(picture).double().numpy())

    found = {}
    for cell in results.cells:
        for mask in results.masks:
            first = [row for row in results.firsts(cell["label"]).values() if row.mask == mask]
            real = np.array([of(f"truth/{row.picture}.png") for row in first])
            found[cell["label"], mask] = real, np.array([of(row.file) for row in first])
    return found
