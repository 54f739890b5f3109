"""Figures of a benchmark, from its rows and nothing else."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from inpaintkit.core.errors import BadInput
from inpaintkit.data.reading import read_picture
from inpaintkit.evaluate import rows
from inpaintkit.evaluate.figures import Figure, figure, share
from inpaintkit.evaluate.metrics import Region, diversity
from inpaintkit.evaluate.rows import Row


@dataclass(frozen=True)
class Line:
    """A row of the summary: one cell, over all masks."""

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
    made: int
    """Rows."""
    wanted: int
    """Rows that the suite asks for; fewer are made when a run is stopped."""
    failed: int

    @property
    def complete(self) -> bool:
        return self.made >= self.wanted

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

    def firsts(self, cell: str) -> dict[tuple[str, str], Row]:
        """(mask, picture) -> the row of a cell with the suite's first seed."""
        first = self.about["suite"]["seeds"][0]
        return {(row.mask, row.picture): row for row in self.of(cell) if row.seed in (None, first)}

    def line(self, cell: dict[str, Any], region: Region) -> Line:
        """The summary of a cell in a region."""
        mine = self.of(cell["label"])
        figures = {name: of(mine, region, name) for name in self.metrics}
        failed = sum(row.error is not None and row.cell == cell["label"] for row in self.rows)
        times = [row.seconds for row in mine]
        return Line(
            cell, figures, mean(row.nfe for row in mine), mean(row.nfe_backward for row in mine),
            median(times) if times else math.nan, max((row.memory for row in mine if row.memory is not None), default=math.nan),
            max((row.changed for row in mine), default=math.nan), mean(row.seam for row in mine), self.spread(mine),
            len(mine), int(cell["rows"]), failed,
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

    def won(self, one: str, other: str, region: Region = "hole") -> Figure:
        """Share of (mask, picture) pairs on which one cell beats another in the first metric, ties half; seeds are averaged first."""
        higher = self.metrics[self.first]["higher"]
        return share((key[1], 0.5 if a == b else float((a > b) == higher)) for key, a, b in self._both(one, other, self.first, region))

    def ahead(self, one: str, other: str, metric: str, region: Region = "hole") -> Figure:
        """A metric of one cell less that of another on the same mask and picture; seeds are averaged first, then masks. Where one of
        them is infinite there is no difference, which `exact` counts."""
        return figure((key[1], a - b if a != b else 0.0) for key, a, b in self._both(one, other, metric, region))

    def _both(self, one: str, other: str, metric: str, region: Region) -> list[tuple[tuple[str, str], float, float]]:
        """(mask, picture) and the two values, where both cells have one."""
        first, second = (self._pairs(name, metric, region) for name in (one, other))
        both = [(key, first[key], second[key]) for key in first if key in second]
        return [one for one in both if not math.isnan(one[1]) and not math.isnan(one[2])]

    def _pairs(self, cell: str, metric: str, region: Region) -> dict[tuple[str, str], float]:
        groups: dict[tuple[str, str], list[float]] = {}
        for row in self.of(cell):
            groups.setdefault((row.mask, row.picture), []).append(row.value(region, metric))
        return {key: fmean(group) for key, group in groups.items()}


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
        needed = *row.files, f"truth/{row.picture}.png", f"masks/{row.mask}/{row.picture}.png"
        if gone := next((name for name in needed if not (found.folder / name).is_file()), None):
            raise BadInput(f"{found.folder / gone}: is missing; run the suite with --resume to make it again")
    return found


def of(mine: Iterable[Row], region: Region, metric: str) -> Figure:
    """The figure of a metric over rows."""
    return figure((row.picture, row.value(region, metric)) for row in mine)


def mean(values: Iterable[float]) -> float:
    """Of what is finite; NaN where nothing is."""
    kept = [v for v in values if math.isfinite(v)]
    return fmean(kept) if kept else math.nan
