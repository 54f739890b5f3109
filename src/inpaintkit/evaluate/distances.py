"""How far the results of a way are from the truths as sets, by mask: FID and KID, and the same on the features that a suite names."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.evaluate import extractors, features, sets
from inpaintkit.evaluate.figures import Figure
from inpaintkit.evaluate.inception import clean
from inpaintkit.evaluate.results import Results
from inpaintkit.evaluate.rows import Row
from inpaintkit.evaluate.suites import SETS

Pooled = Callable[[Tensor], Tensor]
"""A picture `(3, H, W)` in [-1, 1] -> its features `(D,)`."""
Distances = dict[tuple[str, str], Figure]
"""(cell, mask) -> the distance."""


def distances(results: Results) -> dict[str, Distances]:
    """What tables call it -> distances of whole pictures from the truths, of each picture's first seed.

    "KID" with its 95 % interval and "FID", of `sets.LEAST` pictures or more, by Inception's features where the suite asks for them;
    by those of a file KID's distance is called kernel[its name]. Weights that are gone are left out.
    """
    suite, found = results.about["suite"], dict[str, Distances]()
    if (asked := [name for name in SETS if name in suite["metrics"]]) and (pooled := _inception()) is not None:
        pairs = _pairs(results, pooled)
        found |= {name.upper(): {key: _figure(name, *pair) for key, pair in pairs.items()} for name in asked}
    for file in suite.get("features", ()):
        if (by := _of_file(Path(file))) is not None:
            name, pooled = by
            found[f"kernel[{name}]"] = {key: _figure("kid", *pair) for key, pair in _pairs(results, pooled).items()}
    return found


def _figure(name: str, real: np.ndarray, fake: np.ndarray) -> Figure:
    if name == "kid":
        return Figure(*(sets.kernel(real, fake) if len(real) else (math.nan,) * 3), len(real))
    return Figure(sets.frechet(real, fake) if len(real) >= sets.LEAST else math.nan, math.nan, math.nan, len(real))


def _inception() -> Pooled | None:
    try:
        network = features.inception()
    except BadInput:
        return None
    return lambda picture: network(clean(picture)[None])[0]


def _of_file(file: Path) -> tuple[str, Pooled] | None:
    try:
        by = extractors.load(file)
    except BadInput:
        return None
    return by.name, lambda picture: by.extract(picture[None])[1][0]


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
            first: dict[str, Row] = {}
            for row in results.of(cell["label"], mask):
                first.setdefault(row.picture, row)
            real = np.array([of(f"truth/{picture}.png") for picture in first])
            found[cell["label"], mask] = real, np.array([of(row.file) for row in first.values()])
    return found
