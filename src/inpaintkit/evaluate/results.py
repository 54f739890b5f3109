"""Figures of a benchmark, from its rows and nothing else."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from inpaintkit.core.errors import BadInput
from inpaintkit.data.reading import read_picture
from inpaintkit.evaluate import rows
from inpaintkit.evaluate.metrics import Region, diversity, interval, wins
from inpaintkit.evaluate.rows import Row


@dataclass(frozen=True)
class Figure:
    """A mean over pictures with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int
    """Pictures."""


@dataclass(frozen=True)
class Line:
    """A row of the summary: one cell, over all masks or one."""

    cell: dict[str, Any]
    figures: dict[str, Figure]
    """By metric."""
    nfe: float
    nfe_backward: float
    seconds: float
    memory: float
    changed: float
    seam: float
    diversity: float
    failed: int

    @property
    def work(self) -> float:
        """Evaluations, a gradient counted as two more."""
        return self.nfe + 2 * self.nfe_backward


@dataclass(frozen=True)
class Results:
    """What lies in a benchmark's folder."""

    folder: Path
    about: dict[str, Any]
    rows: list[Row]

    @property
    def cells(self) -> list[dict[str, Any]]:
        return list(self.about["cells"])

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Name -> {"higher", "unit"}."""
        return dict(self.about["metrics"])

    @property
    def first(self) -> str:
        """The metric that ranks."""
        return next(iter(self.metrics))

    @cached_property
    def good(self) -> list[Row]:
        return [row for row in self.rows if row.error is None]

    @cached_property
    def masks(self) -> list[str]:
        return list(dict.fromkeys(row.mask for row in self.rows))

    @cached_property
    def pictures(self) -> list[str]:
        return list(dict.fromkeys(row.picture for row in self.rows))

    def of(self, cell: str, mask: str | None = None) -> list[Row]:
        return [row for row in self.good if row.cell == cell and mask in (None, row.mask)]

    def line(self, cell: dict[str, Any], region: Region, mask: str | None = None) -> Line:
        """The summary of a cell in a region."""
        mine = self.of(cell["label"], mask)
        figures = {name: figure(per_picture(mine, region, name).values()) for name in self.metrics}
        failed = sum(row.error is not None and row.cell == cell["label"] and mask in (None, row.mask) for row in self.rows)
        times = [row.seconds for row in mine]
        return Line(
            cell, figures, mean(row.nfe for row in mine), mean(row.nfe_backward for row in mine),
            median(times) if times else math.nan, max((row.memory for row in mine if row.memory is not None), default=math.nan),
            max((row.changed for row in mine), default=math.nan), mean(row.seam for row in mine), self.spread(mine), failed,
        )  # fmt: skip

    def spread(self, mine: Sequence[Row]) -> float:
        """`metrics.diversity` of the seeds, averaged over masks and pictures; NaN with one seed."""
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in mine:
            groups.setdefault((row.cell, row.mask, row.picture), []).append(row)
        return mean(self._spread(key, tuple(row.file for row in group)) for key, group in groups.items() if len(group) > 1)

    def _spread(self, key: tuple[str, str, str], files: tuple[str, ...]) -> float:
        if key not in self._spreads:
            hole = self.array(f"masks/{key[1]}/{key[2]}.png")[:, :, 0] > 0
            samples = [torch.from_numpy(self.array(file).astype(np.float32) / 127.5 - 1).permute(2, 0, 1) for file in files]
            self._spreads[key] = diversity(samples, hole)
        return self._spreads[key]

    @cached_property
    def _spreads(self) -> dict[tuple[str, str, str], float]:
        return {}

    def array(self, file: str) -> np.ndarray:
        """A picture of the folder, (H, W, C) uint8."""
        return read_picture(self.folder / file).pixels

    def share_won(self, one: str, other: str, region: Region = "hole") -> float:
        """Share of (mask, picture) pairs on which one cell beats another in the first metric; NaN without pairs."""
        values = []
        for name in (one, other):
            groups: dict[tuple[str, str], list[float]] = {}
            for row in self.of(name):
                groups.setdefault((row.mask, row.picture), []).append(row.value(region, self.first))
            values.append({key: fmean(group) for key, group in groups.items()})
        both = [key for key in values[0] if key in values[1] and not math.isnan(values[0][key] + values[1][key])]
        return wins([values[0][k] for k in both], [values[1][k] for k in both], self.metrics[self.first]["higher"]) if both else math.nan


def load(folder: Path) -> Results:
    """The results in a folder. Raises `BadInput` when they are none, or there is no row yet."""
    found = Results(Path(folder), rows.about(Path(folder)), rows.read(Path(folder)))
    if not found.rows:
        raise BadInput(f"{folder}: has no row yet; run the suite first")
    order = {cell["label"]: i for i, cell in enumerate(found.cells)}
    missing = next((row.cell for row in found.rows if row.cell not in order), None)
    if missing is not None:
        raise BadInput(f"{folder}: a row's cell {missing!r} is not in suite.json; these files do not belong together")
    for row in found.good:
        if not (found.folder / row.file).is_file():
            raise BadInput(f"{found.folder / row.file}: is missing; run the suite with --resume to make it again")
    return found


def per_picture(mine: Iterable[Row], region: str, metric: str) -> dict[str, float]:
    """Picture -> mean over masks and seeds of what is finite: seeds and masks of one picture are no independent draws."""
    groups: dict[str, list[float]] = {}
    for row in mine:
        if math.isfinite(value := row.value(region, metric)):
            groups.setdefault(row.picture, []).append(value)
    return {picture: fmean(values) for picture, values in groups.items()}


def figure(values: Iterable[float]) -> Figure:
    """The mean of values with its interval."""
    return _figure(tuple(values))


@cache
def _figure(values: tuple[float, ...]) -> Figure:
    return Figure(mean(values), *interval(values), len(values))


def mean(values: Iterable[float]) -> float:
    """Of what is finite; NaN where nothing is."""
    kept = [v for v in values if math.isfinite(v)]
    return fmean(kept) if kept else math.nan
