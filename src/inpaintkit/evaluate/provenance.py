"""What decides the rows of a suite, and where they were made: what suite.json says, and whether a run may go on with it."""

import json
import os
import platform
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from inpaintkit.core.settings import dumped
from inpaintkit.evaluate import rows
from inpaintkit.evaluate.grid import Grid
from inpaintkit.evaluate.inputs import fingerprint

VERSIONS = ("inpaintkit", "torch", "numpy", "pillow", "diffusers", "scipy", "scikit-image")
OPTIONAL = ("opencv-python-headless", "opencv-python", "onnxruntime", "torchmetrics")
"""Packages that some ways and metrics need."""
LENIENT = ("machines", "cells", "missing")
"""What of suite.json may differ when a run is resumed; the cells follow from the suite and from which models are there."""
GROWING = ("models", "others", "extras", "device", "dtype")
"""What may have more when a run is resumed, for a model that was missing may be there now, but nothing else."""


def describe(grid: Grid) -> dict[str, Any]:
    """What suite.json says: all that decides the rows, and where they were made."""
    pipes = grid.models.values()
    return {
        "suite": dumped(grid.suite),
        "versions": versions(),
        "extras": extras(),
        "models": {name: pipe.model.sha256 for name, pipe in grid.models.items()},
        "others": {name: getattr(other, "model", other).sha256 for name, other in grid.others.items()},
        "missing": grid.missing,
        "pictures": fingerprint(grid.pictures),
        "masks": fingerprint(grid.holes),
        "device": sorted({str(pipe.device) for pipe in pipes}),
        "dtype": sorted({str(pipe.dtype).removeprefix("torch.") for pipe in pipes}),
        "threads": torch.get_num_threads(),
        "noise": "of the seed and the picture's name",  # earlier versions gave all pictures the seed's
        "cells": grid.about(),
        "metrics": grid.metrics,
        "files": grid.files(),
        "machines": [
            {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
        ],
    }


@cache
def versions() -> dict[str, str]:
    """Of what decides about a row's values."""
    return {name: version(name) for name in VERSIONS}


def extras() -> dict[str, str]:
    """Of `OPTIONAL` those that are installed."""
    found = {}
    for name in OPTIONAL:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def differing(there: dict[str, Any], now: dict[str, Any]) -> str | None:
    """What makes a run another one than that which wrote the suite.json `there`; None where it may go on with its rows."""
    one, two = ({k: v for k, v in about.items() if k not in (*LENIENT, *GROWING)} for about in (there, json.loads(rows.dumps(now))))
    return rows.difference(one, two) or _lost(there, now)


def _lost(there: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first of what may grow that is another one, or gone."""
    for key in GROWING:
        before, after = there.get(key, {}), now[key]
        if isinstance(before, list):
            before, after = (dict.fromkeys(names, True) for names in (before, after))
        if found := rows.difference(before, {name: after.get(name) for name in before}, key):
            return found
    return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
