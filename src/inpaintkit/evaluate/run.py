"""Running a suite: every row is made once, written down at once, and equal in every run with the same machine and versions."""

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inpaintkit.core.errors import BadInput, Cancelled, InpaintError, NotWritable, Terminated
from inpaintkit.core.files import write_bytes
from inpaintkit.core.locks import LOCK, taken
from inpaintkit.core.settings import dumped
from inpaintkit.data.images import encode_png, from_array
from inpaintkit.evaluate import rows
from inpaintkit.evaluate.grid import Grid, Job
from inpaintkit.evaluate.inputs import fingerprint
from inpaintkit.evaluate.metrics import METRICS, changed, measured, seam
from inpaintkit.evaluate.rows import Row
from inpaintkit.evaluate.strips import Strip
from inpaintkit.evaluate.suites import Cell
from inpaintkit.evaluate.tasks import GREY
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.fillers import named

VERSIONS = ("inpaintkit", "torch", "numpy", "pillow", "diffusers", "scipy", "scikit-image")
OPTIONAL = ("opencv-python-headless", "opencv-python", "onnxruntime", "torchmetrics")
"""Packages that some ways and metrics need."""
LENIENT = ("machines", "cells", "missing")
"""What of suite.json may differ when a run is resumed; the cells follow from the suite and from which models are there."""
GROWING = ("models", "others", "extras", "device", "dtype")
"""What may have more when a run is resumed, for a model that was missing may be there now, but nothing else."""


@dataclass(frozen=True)
class Made:
    """A filled picture and its cost."""

    pixels: np.ndarray
    """(H, W, 3) uint8."""
    seconds: float
    nfe: int = 0
    nfe_backward: int = 0
    memory: float | None = None
    strip: Strip | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    done: int
    kept: int
    """Rows that were there already."""
    failed: int


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


def remaining(grid: Grid, out: Path) -> tuple[list[Job], list[Row]]:
    """The rows that are to be made, and those that are there complete. Raises `BadInput`."""
    there = {row.key: row for row in rows.read(out) if row.error is None and all((out / file).is_file() for file in row.files)}
    todo, kept = [], []
    for job in grid.jobs():
        row = there.get((job.cell.label, job.mask, job.picture, job.seed))
        todo += [job] if row is None else []
        kept += [row] if row is not None else []
    return todo, kept


def run(grid: Grid, out: Path, resume: bool = False, tell: Callable[[int, int, Row], None] = lambda done, total, row: None) -> Outcome:
    """Make the rows of a grid in the folder `out`; failed ones are tried again by a later run with `resume`.

    tell(done, total, row) is called after every row. Raises `NotWritable` when `out` holds results and `resume` was not asked
    for, `BadInput` when they are of another suite or version; what fails inside a row becomes that row's `error`.
    """
    busy = "another process runs a suite there; wait for it, or name another folder"
    if out.exists() and not (out / rows.SUITE).exists() and (not out.is_dir() or any(path.name != LOCK for path in out.iterdir())):
        raise NotWritable(f"{out}: is not an empty folder; name a new one")
    lock = taken(out, busy)
    try:
        began(grid, out, resume)
        todo, kept = remaining(grid, out)
        rows.write(out, kept)
        failed = 0
        for number, job in enumerate(todo, len(kept) + 1):
            row = _row(grid, job, out)
            rows.append(out, row)
            failed += row.error is not None
            tell(number, len(todo) + len(kept), row)
        return Outcome(len(todo), len(kept), failed)
    finally:
        lock.release()


def began(grid: Grid, out: Path, resume: bool) -> None:
    """Make the folder ready, or make sure that it is of this suite and these versions."""
    now = describe(grid)
    if (out / rows.SUITE).exists():
        if not resume:
            raise NotWritable(f"{out}: holds results already; pass --resume to go on with them, or name another folder")
        there = rows.about(out)
        one, two = ({k: v for k, v in about.items() if k not in (*LENIENT, *GROWING)} for about in (there, json.loads(rows.dumps(now))))
        other = rows.difference(one, two) or _lost(there, now)
        if other:
            raise BadInput(f"{out}: holds results of another suite or version ({other}); name another folder")
        now["machines"] = there["machines"] + [one for one in now["machines"] if one not in there["machines"]]
    write_bytes(out / rows.SUITE, rows.dumps(now))  # first, so that a run that is stopped right here can be resumed
    arrays = {f"truth/{name}.png": picture for name, picture in grid.pictures.items()}
    arrays |= {f"masks/{mask}/{name}.png": hole.astype(np.uint8) * 255 for (mask, name), hole in grid.holes.items()}
    for file, array in arrays.items():
        if not (out / file).is_file():
            _write(out / file, encode_png(array))


def _lost(there: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first of what may grow that is another one, or gone."""
    for key in GROWING:
        before, after = there.get(key, {}), now[key]
        if isinstance(before, list):
            before, after = (dict.fromkeys(names, True) for names in (before, after))
        if found := rows.difference(before, {name: after.get(name) for name in before}, key):
            return found
    return None


def _row(grid: Grid, job: Job, out: Path) -> Row:
    truth, hole = grid.pictures[job.picture], grid.holes[job.mask, job.picture]
    row = Row(job.cell.label, job.mask, job.picture, job.seed, float(hole.mean()), versions=versions())
    try:
        made = filled(grid, job, truth, hole)
        file = Path("pictures") / job.cell.folder / job.mask / f"{job.picture}-{0 if job.seed is None else job.seed}.png"
        _write(out / file, encode_png(made.pixels))
        measured = measure(grid, made.pixels, truth, hole)
        way: dict[str, Any] = {}
        if made.strip is not None and made.strip.levels:
            strip = Path("strips") / job.cell.folder / job.mask / f"{job.picture}.png"
            _write(out / strip, encode_png(made.strip.picture()))
            way = {"strip": strip.as_posix(), "levels": tuple(made.strip.levels)}
    except (Cancelled, Terminated, NotWritable):
        raise
    except Exception as error:  # whatever it is, the other rows are wanted
        text = str(error) if isinstance(error, InpaintError) else f"{type(error).__name__}: {error}"
        return replace(row, error=" ".join(text.split())[:300])
    cost: dict[str, Any] = {"nfe": made.nfe, "nfe_backward": made.nfe_backward, "seconds": made.seconds, "memory": made.memory}
    return replace(row, file=file.as_posix(), **measured, **cost, **way)


def filled(grid: Grid, job: Job, truth: np.ndarray, hole: np.ndarray) -> Made:
    """The picture with its hole filled; what fills never sees the truth."""
    cell = job.cell
    if cell.model is None:
        return _classical(cell, truth, hole)
    pipe = grid.models[cell.model]
    first = job.seed == grid.suite.seeds[0] and job.picture in list(grid.pictures)[: grid.suite.strips]
    strip = Strip((truth.shape[1], truth.shape[0])) if first else None
    _forget_peak(pipe)
    result, record = cell.task.fill(replace(grid.given(job), on_step=strip))
    return Made(result.pixels, record["seconds"], record["nfe"], record.get("nfe_backward", 0), _peak(pipe), strip)


def _classical(cell: Cell, truth: np.ndarray, hole: np.ndarray) -> Made:
    assert cell.filler is not None
    given = np.where(hole[:, :, None], np.uint8(GREY), truth)
    clock = time.perf_counter()
    values = named(cell.filler)(given.astype(np.float32) / np.float32(255), hole)
    seconds = time.perf_counter() - clock
    if not np.isfinite(values[hole]).all():
        raise BadInput(f"{cell.filler}: gave values that are not finite")
    pixels = np.where(hole[:, :, None], (values.clip(0, 1) * 255).round().astype(np.uint8), truth)
    return Made(pixels, round(seconds, 4))


def measure(grid: Grid, pixels: np.ndarray, truth: np.ndarray, hole: np.ndarray) -> dict[str, Any]:
    """The metrics of a result (H, W, 3) uint8."""
    one, other = (from_array(array).tensor()[0] for array in (pixels, truth))
    names = [name for name in grid.suite.metrics if name in METRICS]
    return {
        "metrics": measured(one, other, hole, names, grid.networks),
        "seam": float(seam(one, other, hole)),
        "changed": changed(pixels, truth, hole),
    }


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(f"{path.parent}: {error.strerror}; choose a folder that can be written") from None
    write_bytes(path, data)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _forget_peak(pipe: Inpainter) -> None:
    if pipe.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(pipe.device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak counts from here
    except OSError:
        return


def _peak(pipe: Inpainter) -> float | None:
    """MiB since `_forget_peak`."""
    if pipe.device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(pipe.device) / 2**20, 1)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)
    except (OSError, StopIteration):
        return None
