"""How far the results of a way are from the truths as sets, by mask: the kernel distance of KID on the features that a suite names."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch

from inpaintkit.core.errors import BadInput
from inpaintkit.evaluate import extractors, sets
from inpaintkit.evaluate.extractors import Features
from inpaintkit.evaluate.figures import Figure
from inpaintkit.evaluate.results import Results
from inpaintkit.evaluate.rows import Row


def kernels(results: Results) -> dict[str, dict[tuple[str, str], Figure]]:
    """Extractor -> (cell, mask) -> distance of whole pictures with its 95 % interval, of each picture's first seed.

    With no Inception features it is not KID, and carries the file's name. Files that are gone are left out.
    """
    return {found.name: _of(results, found) for file in results.about["suite"].get("features", ()) if (found := _there(Path(file)))}


def _there(file: Path) -> Features | None:
    try:
        return extractors.load(file)
    except BadInput:
        return None


@torch.no_grad()
def _of(results: Results, by: Features) -> dict[tuple[str, str], Figure]:
    @cache
    def pooled(file: str) -> np.ndarray:
        values = torch.from_numpy(results.array(file).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        return np.asarray(by.extract(values)[1][0].double().numpy())

    found = {}
    for cell in results.cells:
        for mask in results.masks:
            first: dict[str, Row] = {}
            for row in results.of(cell["label"], mask):
                first.setdefault(row.picture, row)
            real = np.array([pooled(f"truth/{picture}.png") for picture in first])
            fake = np.array([pooled(row.file) for row in first.values()])
            value, low, high = sets.kernel(real, fake) if first else (math.nan,) * 3
            found[cell["label"], mask] = Figure(value, low, high, len(first))
    return found
