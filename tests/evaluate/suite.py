"""A small real suite: two noise pictures, two masks, a tiny network and a classical filler."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import tiny
from inpaintkit.core.settings import checked
from inpaintkit.evaluate.grid import Grid, opened
from inpaintkit.evaluate.suites import Suite, check

STEPS = 2


def pictures(folder: Path, count: int = 2, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        smooth = np.kron(np.random.default_rng([seed, i]).integers(0, 256, (4, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(smooth).save(folder / f"photo {i}.png")
    return folder


def suite(folder: Path, **other) -> Suite:
    """Two ways, two pictures, two masks, two seeds for the network: 12 rows. The model is made once in `folder`."""
    model = folder / "tiny"
    values = {
        "name": "small",
        "images": {"source": str(folder / "photos"), "size": 32},
        "masks": {"kinds": ["box", "right-half"], "seed": 3},
        "models": [str(model if model.is_dir() else tiny.folder(model))],
        "methods": [{"name": "plain", "label": "told", "fields": {"walk": {"steps": STEPS}}}],
        "fillers": ["telea"],
        "seeds": [0, 1],
    }
    if not (folder / "photos").is_dir():
        pictures(folder / "photos")
    made = checked(Suite, values | other)
    check(made)
    return made


def grid(folder: Path, **other) -> Grid:
    return opened(suite(folder, **other), "cpu", "float32")


def with_pictures(grid: Grid, changed: dict[str, np.ndarray]) -> Grid:
    return replace(grid, pictures=changed)
