"""The recipe's `[data]` where it is paired arrays: fields, and what was measured of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import Settings
from inpaintkit.data import arrays
from inpaintkit.data.splits import SHARES, SPLITS, check_shares
from inpaintkit.train.sources import ArrayBatch, Shares

Portion = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class ArrayData(Settings):
    """Paired arrays: dense fields, and what was measured of them."""

    kind: Literal["arrays"]
    path: str
    """Folder or .npz file as `data/arrays.py` describes it, relative to `root`."""
    batches: Annotated[tuple[ArrayBatch, ...], Field(min_length=1)]
    root: str = "."
    """Folder that the path is relative to."""
    points: tuple[Portion, Portion] | None = None
    """Training draws anew, for every item, which values are known: a share of the points between these two, uniform; at least one.
    None: the mask of the data. Held-out items always have the data's mask, where there is one."""
    turn: bool = False
    """Training turns and mirrors fields at random, by half turns only where their sides differ. Only for fields that know no
    direction, told by single values."""
    split: Shares = SHARES
    """Shares of training, validation and test items, by content hash. Test items are never looked at."""

    def open(self) -> "ArraySource":
        """Read everything. Raises `BadInput` or `UsageError`, one line."""
        check_shares(self.split)
        if self.points is not None and self.points[0] > self.points[1]:
            raise UsageError(f"data.points = {self.points}: the smaller share comes first")
        if not sum(batch.share for batch in self.batches):
            raise UsageError("the shares of data.batches must not all be 0")
        return ArraySource(self)


class ArraySource:
    """Paired arrays, split by content."""

    def __init__(self, data: ArrayData):
        self.data = data
        self.all = arrays.read(Path(data.root) / data.path)
        self.splits = dict(zip(SPLITS, self.all.split(data.split), strict=True))
        self.field = self.all.cond.shape[1:3]
        if (largest := max(batch.size or 0 for batch in data.batches)) > min(self.field):
            raise UsageError(f"data.batches: size = {largest}, but the fields have {self.field[0]} x {self.field[1]} positions")
        if self.all.hole is None and data.points is None and data.turn:
            raise UsageError("data.turn: what is measured along rows or over squares may not be turned; set it to false")

    def draw(self, rng: np.random.Generator, batch: int, split: str) -> dict[str, np.ndarray]:
        """`x0` `(C, H, W)`, `cond` `(C', H, W)`, both scaled, and `known` `(1, H, W)`, 1 = known; float32."""
        pool, size = self.splits[split], self.data.batches[batch].size
        target, cond, known = (part.numpy() for part in pool.item(int(rng.integers(len(pool)))))
        found = {"x0": target, "cond": cond, "known": known}
        if size is not None:
            top, left = (int(rng.integers(side - size + 1)) for side in self.field)
            found = {name: part[:, top : top + size, left : left + size] for name, part in found.items()}
        if self.data.points is not None and (split == "train" or self.all.hole is None):
            found["known"] = _points(rng, self.data.points, found["known"].shape)
        if self.data.turn and split == "train":
            height, width = found["x0"].shape[1:]
            quarters, mirrored = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2)), rng.random() < 0.5
            found = {name: np.rot90(part[:, :, ::-1] if mirrored else part, quarters, (1, 2)) for name, part in found.items()}
        return {name: np.ascontiguousarray(part) for name, part in found.items()}

    def count(self, split: str, batch: int | None = None) -> int:
        return len(self.splits[split])

    def shapes(self, parts: int) -> list[tuple[int, int, int]]:
        height, width = map(int, self.field)
        return [(batch.items // parts, batch.size or height, batch.size or width) for batch in self.data.batches]

    def notes(self) -> list[str]:
        return []

    def about(self) -> dict[str, Any]:
        """With what a network must know of the data: channels, sides, scale, units."""
        a, (channels, cond_channels) = self.all, self.all.channels
        return {
            "items": self.count("train"),
            "digest": a.fingerprint,
            "masked": a.hole is not None,
            "redrawn": self.data.points is not None,
            "channels": channels,
            "cond_channels": cond_channels,
            "size": max(batch.size or max(self.field) for batch in self.data.batches),
            "units": str(a.about.get("units", "")),
            "mean": list(a.scale.mean),
            "std": list(a.scale.std),
            "cond_mean": list(a.cond_scale.mean),
            "cond_std": list(a.cond_scale.std),
        }


def _points(rng: np.random.Generator, shares: tuple[float, float], shape: tuple[int, ...]) -> np.ndarray:
    """Which values are known, `(1, H, W)` float32: so large a share of the points, anywhere."""
    count = shape[1] * shape[2]
    known = np.zeros(count, np.float32)
    known[rng.permutation(count)[: max(1, round(rng.uniform(*shares) * count))]] = 1
    return known.reshape(shape)
