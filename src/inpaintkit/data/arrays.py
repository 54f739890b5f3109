"""Paired arrays: fields to be reconstructed (`target`), what was measured of them (`cond`) and, optionally, which values
are known exactly (`mask`). Read from a folder of .npy files, memory-mapped, or from one .npz file.

    FOLDER/target.npy  (N, H, W) or (N, H, W, C)       FOLDER/cond.npy  (N, H, W) or (N, H, W, C')
    FOLDER/mask.npy    (N, H, W), True = not known     FOLDER/fields.json, or X.json beside X.npz:

    {"units": "K", "mean": [280.0], "std": [5.0], "cond": {"mean": [280.0, 0.0], "std": [5.0, 1.0]}}

One number, or one per channel; "low" and "high" in the place of "mean" and "std" scale to [-1, 1]. Without "cond" the
target's scale is used, if the channels are as many. Where the mask is False, the first C channels of `cond` hold the target's
values; without a mask, no single value is known. Item by item, a field is float32 (C, H, W), scaled.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.data.decoding import printable
from inpaintkit.data.holes import known_from_hole
from inpaintkit.data.npy import read_folder, read_npz
from inpaintkit.data.picture import LIMITS, Limits
from inpaintkit.data.scale import Scale, read_sidecar
from inpaintkit.data.splits import SHARES, SPLITS, split_of

SIDECAR = "fields.json"
MEMBERS = ("target", "cond", "mask")
BLOCK = 1 << 24  # values looked at together while checking: bounds the memory


@dataclass(frozen=True)
class Arrays:
    """Checked paired arrays. `read` makes them; `len`, `item` and `batch` see the items of `index` only."""

    name: str
    """For messages."""
    target: NDArray | None
    """(N, H, W, C), as stored."""
    cond: NDArray
    """(N, H, W, C'), as stored."""
    hole: NDArray | None
    """(N, H, W), True or 1 = not known."""
    scale: Scale
    """Of the target."""
    cond_scale: Scale
    about: dict[str, Any]
    """The whole sidecar: "units" and whatever else it says."""
    index: NDArray[np.intp]
    """Which of the N items, in ascending order."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def channels(self) -> tuple[int, int]:
        """(C, C')."""
        return len(self.scale.mean), len(self.cond_scale.mean)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with any value, shape or kind of number of target, cond or mask, of all N items."""
        found = hashlib.blake2b(digest_size=8)
        for array in (self.target, self.cond, self.hole):
            found.update(b"none" if array is None else f"{array.dtype.str} {array.shape}".encode())
            for _, block in () if array is None else _blocks(array):
                found.update(np.ascontiguousarray(block).data)
        return found.hexdigest()

    def item(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """(target (C, H, W), cond (C', H, W), known (1, H, W)), float32; target and cond scaled, known 1 = value known.

        Without target arrays the first holds the known values, from `cond`, and 0 elsewhere.
        """
        target, cond, known = self.batch([i])
        return target[0], cond[0], known[0]

    def batch(self, items: Sequence[int] | NDArray) -> tuple[Tensor, Tensor, Tensor]:
        """`item` for several, each with an axis (B,) in front."""
        which = self.index[np.asarray(items, np.intp)]
        raw = self.cond[which]
        if self.hole is None:
            known = torch.zeros(len(which), 1, *raw.shape[1:3])
        else:
            known = torch.cat([known_from_hole(hole.astype(bool)) for hole in self.hole[which]])
        told = self.scale.scaled(raw[..., : self.channels[0]] if self.target is None else self.target[which])
        target = told * known if self.target is None else told
        return target, self.cond_scale.scaled(raw), known

    def units(self, x: Tensor) -> Tensor:
        """Scaled target values `(..., C, H, W)` back in units."""
        return self.scale.units(x)

    def split(self, shares: Sequence[float] = SHARES) -> tuple["Arrays", "Arrays", "Arrays"]:
        """(train, validation, test) by the content of each target as float32: adding, moving or doubling items moves no other.

        Raises `BadInput` without targets or when nothing is left to train on, and `UsageError` for shares that make no split.
        """
        if self.target is None:
            raise BadInput(f"{self.name}: holds no target, so it cannot be split; add target.npy")
        place = np.array([split_of(np.ascontiguousarray(self.target[i], "<f4").tobytes(), shares) for i in self.index])
        train, validation, test = (replace(self, index=self.index[place == split]) for split in SPLITS)
        if not len(train):
            raise BadInput(f"{self.name}: none of its {len(self)} items falls into the training part; add items")
        return train, validation, test


def read(path: Path, need_target: bool = True, limits: Limits = LIMITS) -> Arrays:
    """The paired arrays of a folder (memory-mapped) or .npz file, every value looked at once.

    Raises `BadInput` naming file, cause and item: missing or damaged files, objects, other ranks or kinds of numbers, lengths
    or sizes that differ, NaN or infinity (as float32), masks of an item that cover nothing or everything, known values
    that are not the target's; and `OverLimit` when an .npz declares more than `limits.max_bytes`.
    """
    path = Path(path)
    name, found = printable(str(path)), read_folder(path, MEMBERS) if path.is_dir() else read_npz(path, MEMBERS, limits)
    for wanted in ("target", "cond") if need_target else ("cond",):
        if wanted not in found:
            raise BadInput(f"{name}: holds no {wanted}.npy; save the array {wanted} (N, H, W) or (N, H, W, C) there")
    target, cond = (_with_channels(found[k], f"{name}: {k}.npy") if k in found else None for k in ("target", "cond"))
    hole = _hole(found["mask"], f"{name}: mask.npy") if "mask" in found else None
    assert cond is not None
    for other, array in (("target", target), ("mask", hole)):
        if array is not None and array.shape[:3] != cond.shape[:3]:
            shapes = [f"{a.shape[0]} items of {a.shape[1]}x{a.shape[2]}" for a in (array, cond)]
            raise BadInput(f"{name}: {other}.npy holds {shapes[0]} and cond.npy {shapes[1]}; save arrays of the same items")
    for key, array in (("target", target), ("cond", cond)):
        if array is not None:
            _check_finite(array, f"{name}: {key}.npy")
    scale, cond_scale, about = read_sidecar(path / SIDECAR if path.is_dir() else path.with_suffix(".json"), target, cond)
    if hole is not None:
        _check_holes(hole, f"{name}: mask.npy")
        _check_known(target, cond, hole, len(scale.mean), name)
    return Arrays(name, target, cond, hole, scale, cond_scale, about, np.arange(len(cond)))


def _with_channels(array: NDArray, name: str) -> NDArray:
    if array.ndim not in (3, 4):
        raise BadInput(f"{name}: has shape {array.shape}; save (N, H, W) or (N, H, W, C)")
    return array[..., None] if array.ndim == 3 else array


def _hole(array: NDArray, name: str) -> NDArray:
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise BadInput(f"{name}: has shape {array.shape}; save (N, H, W), True = not known")
    return array


def _blocks(array: NDArray) -> Iterator[tuple[int, NDArray]]:
    """(number of the first item, some items), so that a mapped array is never in memory as a whole."""
    step = max(1, BLOCK // prod(array.shape[1:]))
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def _check_finite(array: NDArray, name: str) -> None:
    if array.dtype.kind != "f":
        return
    for start, block in _blocks(array):
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(block.astype(np.float32, copy=False))
        if bad.any():
            item, row, column, channel = np.argwhere(bad)[0]
            where = f"item {start + item}, row {row}, column {column}, channel {channel}"
            raise BadInput(f"{name}: holds {block[item, row, column, channel]} ({where}); put a number there and the place into the mask")


def _check_holes(hole: NDArray, name: str) -> None:
    for start, block in _blocks(hole):
        if hole.dtype != bool and (bad := (block != 0) & (block != 1)).any():
            item = int(np.argwhere(bad)[0][0])
            raise BadInput(f"{name}: item {start + item} holds {block[bad][0]:g}; use True or 1 for not known, False or 0 for known")
        for what, wrong in (("nothing", ~block.any((1, 2))), ("everything", block.all((1, 2)))):
            if wrong.any():
                advice = "drop the item" if what == "nothing" else "drop the item, or mask.npy if no single values are known"
                raise BadInput(f"{name}: item {start + int(np.argmax(wrong))} covers {what}; True marks what is not known: {advice}")


def _check_known(target: NDArray | None, cond: NDArray, hole: NDArray, channels: int, name: str) -> None:
    """An inverted mask, or a `cond` of another layout, is found here and not after the training."""
    if cond.shape[3] < channels:
        raise BadInput(f"{name}: cond.npy has {cond.shape[3]} channels; with a mask its first {channels} are the target's values")
    for start, block in _blocks(hole) if target is not None else ():
        assert target is not None
        part = slice(start, start + len(block))
        one, other = (a[part, ..., :channels].astype(np.float64) for a in (target, cond))
        bad = (abs(one - other) > 1e-5 * (abs(one) + abs(other))) & ~block.astype(bool)[..., None]  # float32 rounding passes
        if bad.any():
            item, row, column, _ = np.argwhere(bad)[0]
            where = f"item {start + item}, row {row}, column {column}"
            raise BadInput(f"{name}: {where} is known by the mask, but cond and target differ there; True marks what is not known")
