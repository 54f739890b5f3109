"""What a suite names, opened: pictures, holes, models, metrics. Everything is read, and refused, before any work."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.noise import derived
from inpaintkit.core.settings import dumped
from inpaintkit.evaluate import extractors
from inpaintkit.evaluate.features import PERCEPTUAL, inception_file, lpips, lpips_files
from inpaintkit.evaluate.inputs import read_holes, read_pictures
from inpaintkit.evaluate.metrics import METRICS, SMALLEST_MS, Maps, ms_ssim_measure
from inpaintkit.evaluate.sets import NAMES as SETS
from inpaintkit.evaluate.sets import too_few
from inpaintkit.evaluate.suites import Cell, Suite, cells
from inpaintkit.evaluate.tasks import Given, Load
from inpaintkit.methods.gradient import GradientMethod
from inpaintkit.models.weights import sha256
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.fillers import Fill, named
from inpaintkit.pipeline.plans import Work, call_seconds


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
    """Those whose models are there."""
    pictures: dict[str, np.ndarray]
    """Name -> (size, size, 3) uint8."""
    holes: dict[tuple[str, str], np.ndarray]
    """(mask, picture) -> (size, size) bool, True = hole."""
    fillers: dict[str, Fill]
    models: dict[str, Inpainter]
    networks: dict[str, Maps]
    """Of perceptual metrics, by name."""
    features: dict[str, str]
    """File of the suite's `features` -> sha256."""
    others: dict[str, Any]
    """Networks that tasks name."""
    missing: dict[str, str]
    """What was left out -> why, one line: models and other networks that cannot be loaded, pictures."""

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Name -> whether higher is better, and the unit; the suite's, then those of `features`."""
        named = dict.fromkeys([*(name for name in self.suite.metrics if name not in SETS), *self.networks])
        return {
            name: {"higher": name in METRICS and METRICS[name].higher, "unit": METRICS[name].unit if name in METRICS else ""}
            for name in named
        }

    def files(self) -> dict[str, str]:
        """Weights and networks that decide about rows, apart from the models -> sha256; those that are looked for in several folders
        are told by their names."""
        heads = [path for name in self.suite.metrics if name in PERCEPTUAL for path in lpips_files(PERCEPTUAL[name])]
        heads += [inception_file()] if set(SETS) & set(self.suite.metrics) else []
        networks = {name: sha256(Path(name)) for name in self.suite.fillers if Path(name).is_file()}
        return self.features | networks | {path.name: sha256(path) for path in heads}

    def jobs(self) -> list[Job]:
        """All rows, cell by cell."""
        return [
            Job(cell, mask, picture, seed)
            for cell in self.cells
            for mask in dict.fromkeys(mask for mask, _ in self.holes)
            for picture in self.pictures
            for seed in (self.suite.seeds if cell.model is not None else (None,))
        ]

    def given(self, job: Job) -> Given:
        """What the task of a row works with. Its noise is of its picture, so that pictures are independent draws."""
        assert job.cell.model is not None
        truth, hole, pipe = self.pictures[job.picture], self.holes[job.mask, job.picture], self.models[job.cell.model]
        return Given(truth, hole, job.picture, pipe, job.cell.method, job.cell.options, self.others, derived(job.seed or 0, job.picture))

    def work(self, job: Job) -> Work:
        """Of the network, for one row, as the walk says; a method that repeats steps makes more. Raises `UsageError`."""
        return Work() if job.cell.model is None else job.cell.task.work(self.given(job))

    def left_out(self) -> list[Cell]:
        """The ways whose model, or another network they need, is missing."""
        return [cell for cell in cells(self.suite) if cell not in self.cells]

    def about(self) -> list[dict[str, Any]]:
        """Of every cell what the tables show."""
        count = Counter(job.cell.label for job in self.jobs())
        return [{**_about(cell, None if cell.model is None else self.models[cell.model]), "rows": count[cell.label]} for cell in self.cells]


def opened(suite: Suite, device: str = "auto", dtype: str = "auto") -> Grid:
    """Read the pictures, masks, models and weights of metrics. Raises `BadInput` or `UsageError`, one line.

    A model that is not there leaves out the ways that need it; when that is all of them, its line is raised.
    """
    left: list[str] = []
    pictures = read_pictures(suite.images, left.append)
    if "fid" in suite.metrics and (few := too_few(len(pictures))):
        raise UsageError(f"metrics = 'fid': {few}")
    if "ms_ssim" in suite.metrics and suite.images.size >= SMALLEST_MS:
        ms_ssim_measure()  # a package of its own
    if set(SETS) & set(suite.metrics):
        inception_file()  # needed by the report, and refused now if it is not there
    holes = read_holes(suite.masks, list(pictures), suite.images.size)
    networks, every, missing = read_networks(suite), cells(suite), dict[str, str]()
    names = dict.fromkeys(cell.model for cell in every if cell.model is not None)
    pipes = _loaded({name: partial(Inpainter.from_pretrained, name) for name in names}, device, dtype, missing)
    others = _loaded({name: load for cell in every for name, load in cell.task.needs().items()}, device, dtype, missing)
    there = [cell for cell in every if cell.model in (None, *pipes) and cell.task.needs().keys() <= others.keys()]
    if not there:
        raise BadInput(next(iter(missing.values())))
    missing |= {f"pictures {i}": line for i, line in enumerate(left, 1)}
    grid = Grid(suite, there, pictures, holes, {name: named(name) for name in suite.fillers}, pipes, *networks, others, missing)
    for cell in there:
        grid.work(next(job for job in grid.jobs() if job.cell == cell))  # a walk that cannot be walked is refused now
    return grid


def _loaded(loads: Mapping[str, Load], device: str, dtype: str, missing: dict[str, str]) -> dict[str, Any]:
    """What can be loaded; of what cannot the cause is put into `missing`."""
    found = {}
    for name, load in loads.items():
        try:
            found[name] = load(device, dtype)
        except (UsageError, BadInput) as error:
            missing[name] = str(error)
    return found


def read_networks(suite: Suite) -> tuple[dict[str, Maps], dict[str, str]]:
    """Networks of perceptual metrics by name, those of `features` last, and sha256 of the latter's files. Raises `BadInput` for weights
    that are missing."""
    found: dict[str, Maps] = {name: lpips(PERCEPTUAL[name]) for name in suite.metrics if name in PERCEPTUAL}
    loaded = {file: extractors.load(Path(file)) for file in suite.features}
    found |= {f"perceptual[{one.name}]": one.differences for one in loaded.values()}
    return found, {file: one.sha256 for file, one in loaded.items()}


def expected_minutes(grid: Grid, jobs: list[Job], clock: Callable[[], float]) -> float:
    """Of the network's work in these rows: evaluations times the measured seconds of one in a window as large as the picture or as the
    network takes, by pixels; metrics and fillers come on top."""
    cost: dict[tuple[str, bool], float] = {}
    total = 0.0
    for job in jobs:
        if job.cell.model is None:
            continue
        pipe = grid.models[job.cell.model]
        key = job.cell.model, isinstance(job.cell.task.method(pipe, job.cell.method), GradientMethod)
        if key not in cost:
            side = min(grid.suite.images.size, pipe.model.network.config.largest)
            cost[key] = call_seconds(pipe, (side, side), key[1], clock) / side**2
        total += grid.work(job).pixels * cost[key]
    return total / 60


def _about(cell: Cell, pipe: Inpainter | None) -> dict[str, Any]:
    found: dict[str, Any] = {"label": cell.label, "folder": cell.folder, "model": cell.model, "filler": cell.filler}
    if pipe is None:
        return {**found, "method": cell.filler, "steps": None, "told": None, "settings": {}}
    method = cell.task.method(pipe, cell.method)
    told = pipe.denoiser.conditioned and (cell.options.tell_network or method.tells_network or cell.options.guidance is not None)
    about = {
        "method": type(method).__name__,
        "steps": method.walk.steps if cell.task.samples else None,
        "told": told,
        "settings": dumped(method),
    }
    return {**found, **about, "options": dumped(cell.options), "task": dumped(cell.task)}
