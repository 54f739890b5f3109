"""Running a suite: every row is made once, written down at once, and equal in every run with the same machine and versions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inpaintkit.core.errors import BadInput, Cancelled, InpaintError, NotWritable, Terminated
from inpaintkit.core.files import write_bytes
from inpaintkit.core.locks import LOCK, taken
from inpaintkit.data.images import encode_png
from inpaintkit.evaluate import rows
from inpaintkit.evaluate.grid import Grid, Job
from inpaintkit.evaluate.making import filled, measure
from inpaintkit.evaluate.provenance import describe, differing, versions
from inpaintkit.evaluate.rows import Row


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    done: int
    kept: int
    """Rows that were there already."""
    failed: int


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
        rows.write(out, ordered(grid, rows.read(out)))
        return Outcome(len(todo), len(kept), failed)
    finally:
        lock.release()


def ordered(grid: Grid, made: list[Row]) -> list[Row]:
    """Rows as an uninterrupted run makes them: what is read of them does not depend on which were tried again."""
    place = {(job.cell.label, job.mask, job.picture, job.seed): i for i, job in enumerate(grid.jobs())}
    return sorted(made, key=lambda row: place[row.key])


def began(grid: Grid, out: Path, resume: bool) -> None:
    """Make the folder ready, or make sure that it is of this suite and these versions."""
    now = describe(grid)
    if (out / rows.SUITE).exists():
        if not resume:
            raise NotWritable(f"{out}: holds results already; pass --resume to go on with them, or name another folder")
        there = rows.about(out)
        if found := differing(there, now):
            raise BadInput(f"{out}: holds results of another suite or version ({found}); name another folder")
        now["machines"] = there["machines"] + [one for one in now["machines"] if one not in there["machines"]]
    write_bytes(out / rows.SUITE, rows.dumps(now))  # first, so that a run that is stopped right here can be resumed
    arrays = {f"truth/{name}.png": picture for name, picture in grid.pictures.items()}
    arrays |= {f"masks/{mask}/{name}.png": hole.astype(np.uint8) * 255 for (mask, name), hole in grid.holes.items()}
    for file, array in arrays.items():
        if not (out / file).is_file():
            _write(out / file, encode_png(array))


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


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(f"{path.parent}: {error.strerror}; choose a folder that can be written") from None
    write_bytes(path, data)
