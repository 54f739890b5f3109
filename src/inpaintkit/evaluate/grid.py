"""What a suite names, opened: pictures, holes, models, metrics. Everything is read, and refused, before any work."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from inpaintkit.core.errors import BadInput
from inpaintkit.core.noise import derived
from inpaintkit.core.settings import dumped
from inpaintkit.data.datasets import Source, load
from inpaintkit.data.holes import read_mask
from inpaintkit.data.images import from_array
from inpaintkit.data.masks import draw
from inpaintkit.data.members import SUFFIXES
from inpaintkit.evaluate.features import lpips
from inpaintkit.evaluate.metrics import METRICS, Metric, perceptual
from inpaintkit.evaluate.suites import PERCEPTUAL, SKIMAGE, Cell, Images, Masks, Suite, cells, slug
from inpaintkit.methods.gradient import GradientMethod
from inpaintkit.models.unet import classes
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.plans import plan

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
"""Colour photos inside the scikit-image package."""
LISTED = 5
"""Names in a message, at most."""


@dataclass(frozen=True)
class Job:
    """One row to be made."""

    cell: Cell
    mask: str
    picture: str
    seed: int | None


@dataclass(frozen=True)
class Grid:
    """A suite with all that it needs."""

    suite: Suite
    cells: list[Cell]
    pictures: dict[str, np.ndarray]
    """Name -> (size, size, 3) uint8."""
    holes: dict[tuple[str, str], np.ndarray]
    """(mask, picture) -> (size, size) bool, True = hole."""
    models: dict[str, Inpainter]
    metrics: dict[str, Metric]

    def jobs(self) -> list[Job]:
        """All rows, cell by cell."""
        return [
            Job(cell, mask, picture, seed)
            for cell in self.cells
            for mask in dict.fromkeys(mask for mask, _ in self.holes)
            for picture in self.pictures
            for seed in (self.suite.seeds if cell.model is not None else (None,))
        ]

    def evaluations(self, job: Job) -> int:
        """Of the network, for one row, as the walk says; a method that repeats steps makes more. Raises `UsageError`."""
        if job.cell.model is None:
            return 0
        pipe, options = self.models[job.cell.model], job.cell.options
        method, picture = pipe.method(job.cell.method), from_array(self.pictures[job.picture], job.picture)
        twice = 2 if options.guidance not in (None, 0, 1) else 1  # with and without the condition
        found = plan(pipe, picture, self.holes[job.mask, job.picture], method, options, 1)
        return int(found["evaluations"]) * twice

    def about(self) -> list[dict[str, Any]]:
        """Of every cell what the tables show."""
        return [_about(cell, None if cell.model is None else self.models[cell.model]) for cell in self.cells]


def opened(suite: Suite, device: str = "auto", dtype: str = "auto") -> Grid:
    """Read the pictures, masks, models and weights of metrics. Raises `BadInput` or `UsageError`, one line."""
    pictures = read_pictures(suite.images)
    holes = read_holes(suite.masks, list(pictures), suite.images.size)
    networks = {name: perceptual(lpips(name.removeprefix("lpips_"))) for name in suite.metrics if name in PERCEPTUAL}
    metrics = {name: networks.get(name) or METRICS[name] for name in suite.metrics}
    models = {name: Inpainter.from_pretrained(name, device, dtype) for name in suite.models}
    grid = Grid(suite, cells(suite), pictures, holes, models, metrics)
    for job in grid.jobs():
        grid.evaluations(job)  # a walk that cannot be walked is refused now
    return grid


def read_pictures(images: Images) -> dict[str, np.ndarray]:
    """Name -> picture (size, size, 3) uint8, in the order of their names in the source."""
    if images.source == SKIMAGE:
        from skimage import data

        chosen = PHOTOS[: images.limit]
        found = [(name, np.asarray(getattr(data, name)())) for name in chosen]
    else:
        loaded = load([Source(Path(images.source), limit=images.limit)], {}, smallest=min(32, images.size), short_side=images.size)
        found = list(zip(loaded.names, loaded.images, strict=True))
    names = _names([str(Path(name).with_suffix("")) for name, _ in found])
    return {name: _square(image, images.size) for name, (_, image) in zip(names, found, strict=True)}


def read_holes(masks: Masks, pictures: list[str], size: int) -> dict[tuple[str, str], np.ndarray]:
    """(mask, picture) -> hole. Raises `BadInput` for a folder in which masks are missing or have another size."""
    holes = {}
    for kind in masks.kinds:
        for name in pictures:
            holes[kind, name] = draw(kind, (size, size), derived(masks.seed, kind, name))
    for folder in map(Path, masks.folders):
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such folder; name one with a mask for every picture")
        files = {slug(str(p.relative_to(folder).with_suffix(""))): p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES}
        if missing := [name for name in pictures if name not in files]:
            more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
            raise BadInput(f"{folder}: has no mask for {', '.join(missing[:LISTED])}{more}; name each after its picture")
        for name in pictures:
            holes[folder.name, name] = read_mask(files[name], (size, size))
            if not holes[folder.name, name].any():
                raise BadInput(f"{files[name]}: has no hole; white is what is to be filled")
    return holes


def fingerprint(arrays: dict[Any, np.ndarray]) -> str:
    """16 hex digits that change with any name, size or value."""
    total = hashlib.blake2b(digest_size=8)
    for name, array in arrays.items():
        total.update(repr((name, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def call_seconds(pipe: Inpainter, size: int, gradient: bool, clock: Callable[[], float]) -> float:
    """Of one evaluation of the network on one picture of `size` px, the second of two; with its gradient if asked."""
    side = -(-size // pipe.denoiser.multiple) * pipe.denoiser.multiple
    level = max(1, pipe.denoiser.schedule.T // 2)
    denoiser = replace(pipe.denoiser, labels=None if not classes(pipe.model.network) else torch.zeros(1, dtype=torch.long))
    for _ in range(2):
        began = clock()
        with torch.set_grad_enabled(gradient):
            x = torch.zeros(1, 3, side, side, device=pipe.device).requires_grad_(gradient)
            x0, _ = denoiser(x, level)
            if gradient:
                torch.autograd.grad(x0.sum(), x)
        taken = clock() - began
    return taken


def expected_minutes(grid: Grid, jobs: list[Job], clock: Callable[[], float]) -> float:
    """Of the network's work in these rows: evaluations times the measured seconds of one; metrics and fillers come on top."""
    cost: dict[tuple[str, bool], float] = {}
    total = 0.0
    for job in jobs:
        if job.cell.model is None:
            continue
        pipe = grid.models[job.cell.model]
        key = job.cell.model, isinstance(pipe.method(job.cell.method), GradientMethod)
        if key not in cost:
            cost[key] = call_seconds(pipe, grid.suite.images.size, key[1], clock)
        total += grid.evaluations(job) * cost[key]
    return total / 60


def _about(cell: Cell, pipe: Inpainter | None) -> dict[str, Any]:
    found: dict[str, Any] = {"label": cell.label, "folder": cell.folder, "model": cell.model, "filler": cell.filler}
    if pipe is None:
        return {**found, "method": cell.filler, "steps": None, "told": None, "settings": {}}
    method = pipe.method(cell.method)
    told = pipe.denoiser.conditioned and (cell.options.tell_network or method.tells_network or cell.options.guidance is not None)
    return {**found, "method": type(method).__name__, "steps": method.walk.steps, "told": told, "settings": dumped(method)}


def _names(stems: list[str]) -> list[str]:
    """Names for files, each once."""
    seen: dict[str, int] = {}
    found = []
    for stem in map(slug, stems):
        seen[stem.casefold()] = count = seen.get(stem.casefold(), 0) + 1
        found.append(stem if count == 1 else f"{stem}--{count}")
    return found


def _square(image: np.ndarray, size: int) -> np.ndarray:
    h, w = image.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(square if side == size else square.resize((size, size), Image.Resampling.LANCZOS))
