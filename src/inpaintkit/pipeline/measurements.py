"""What was measured of one or several fields: read from .npy, .npz or a folder, laid out as the model takes it, and the way back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.decoding import printable
from inpaintkit.data.npy import read_folder, read_npy_mapped, read_npz
from inpaintkit.data.picture import LIMITS, Limits
from inpaintkit.models.control import ControlConfig

MEMBERS = ("values", "cond", "mask", "known")
"""Arrays of an .npz file or folder: values of the field, NaN where not known, or the model's condition; True = not known; True = known."""


@dataclass(frozen=True)
class Measurements:
    """Checked, in units. `read` makes them."""

    name: str
    values: NDArray
    """(N, H, W, C), to be read where known."""
    known: NDArray[np.bool_]
    """(N, H, W), True = all channels are known there."""
    cond: NDArray | None
    """(N, H, W, C'), of a model that is told other measurements than single values."""
    axes: tuple[bool, bool]
    """Whether the fields are to have an axis N, and one of channels, as the array given has them."""
    notes: tuple[str, ...] = ()

    def shaped(self, x: NDArray) -> NDArray:
        """Fields `(..., N, H, W, C)` with those axes only that the array given had."""
        x = x if self.axes[0] else x[..., 0, :, :, :]
        return x if self.axes[1] else x[..., 0]


def read(path: Path, config: ControlConfig, mask: Path | None = None, known: Path | None = None, limits: Limits = LIMITS) -> Measurements:
    """Measurements for a model of fields.

    An array is (H, W), (H, W, 1), (N, H, W) or (N, H, W, 1); of a model with several channels (H, W, C) or (N, H, W, C). Not known is
    what is NaN, what `mask` marks True and what `known` marks False, (H, W) or (N, H, W). Raises `BadInput` and `UsageError`.
    """
    if mask is not None and known is not None:
        raise UsageError(f"{mask} and {known}: two masks; give the one whose True means not known as --mask, or the other one as --known")
    path, name = Path(path), printable(str(path))
    found = _found(path, limits)
    marks = printable(str(mask or known or path))
    for key, file in (("mask", mask), ("known", known)):
        if file is not None:  # in place of what the array brings
            found = {name: array for name, array in found.items() if name not in ("mask", "known")} | {key: read_npy_mapped(file)}
    if {"mask", "known"} <= found.keys():
        raise BadInput(f"{name}: holds mask and known, of which only one can count; leave one out, or pass --mask or --known")
    if config.condition == "measurements":
        return _of_condition(found, name, config, marks)
    if "values" not in found and not ("cond" in found and {"mask", "known"} & found.keys()):
        raise BadInput(f"{name}: holds no values.npy; save the field there, NaN where it is not known")
    raw = found["values"] if "values" in found else _first(found["cond"], config.channels)
    values, axes = _laid_out(raw, config.channels, name)
    hole = np.isnan(values).any(-1) if values.dtype.kind == "f" else np.zeros(values.shape[:3], bool)
    hole |= _hole(found, hole.shape, marks, hole)
    _check_finite(values, ~hole, name)
    if not hole.any():
        raise BadInput(f"{name}: nothing is missing; write NaN where the field is not known, or pass --mask FILE.npy (True = not known)")
    empty = int(hole.all((1, 2)).sum())
    notes = (f"nothing is known of {empty} of {len(hole)} fields: the model makes up everything there",) if empty else ()
    return Measurements(name, values, ~hole, None, axes, notes)


def _of_condition(found: dict[str, NDArray], name: str, config: ControlConfig, marks: str) -> Measurements:
    if "cond" not in found and "values" not in found:
        raise BadInput(f"{name}: holds no cond.npy; save there what was measured, {config.cond_channels} channels as in the training data")
    cond, (several, _) = _laid_out(found.get("cond", found.get("values")), config.cond_channels, name)
    _check_finite(cond, np.ones(cond.shape[:3], bool), name)
    nothing = np.ones(cond.shape[:3], bool)
    hole = _hole(found, nothing.shape, marks, nothing)
    if not hole.all() and config.channels > config.cond_channels:
        raise BadInput(
            f"{name}: has a mask, but the measurements have fewer channels than the fields, so no value is known; leave the mask away"
        )
    values = np.zeros((*hole.shape, config.channels), np.float32) if hole.all() else cond[..., : config.channels]
    return Measurements(name, values, ~hole, cond, (several, config.channels > 1))


def _found(path: Path, limits: Limits) -> dict[str, NDArray]:
    if path.is_dir():
        return read_folder(path, MEMBERS)
    if path.suffix.lower() == ".npz":
        return read_npz(path, MEMBERS, limits)
    return {"values": read_npy_mapped(path)}


def _first(cond: NDArray, channels: int) -> NDArray:
    """The values in a training set's condition: its first channels."""
    return cond[..., :channels] if cond.ndim == 4 else cond


def _laid_out(array: NDArray | None, channels: int, name: str) -> tuple[NDArray, tuple[bool, bool]]:
    """The array as (N, H, W, C), and whether it had an axis N and one of channels. Raises `BadInput`."""
    assert array is not None
    shape, full = array.shape, array
    if array.ndim == 2:
        full = array[None, :, :, None]
    one = array.ndim == 3 and (channels > 1 or shape[2] == 1)  # (H, W, 1), for no field is one point wide
    if array.ndim == 3:
        full = array[None] if one else array[..., None]
    axes = (array.ndim == 4 or (array.ndim == 3 and not one), array.ndim == 4 or one)
    if full.ndim != 4 or full.shape[3] != channels:
        wanted = "(H, W), (H, W, 1), (N, H, W) or (N, H, W, 1)" if channels == 1 else f"(H, W, {channels}) or (N, H, W, {channels})"
        raise BadInput(f"{name}: has shape {shape}; this model takes {wanted}")
    return full, axes


def _hole(found: dict[str, NDArray], shape: tuple[int, ...], name: str, otherwise: NDArray) -> NDArray[np.bool_]:
    """(N, H, W) of the mask that came with the values, True = not known. Raises `BadInput`."""
    key = next((key for key in ("mask", "known") if key in found), None)
    if key is None:
        return otherwise
    given = found[key]
    marks = given[..., 0] if given.ndim == 4 and given.shape[3] == 1 else given
    marks = marks[None] if marks.ndim == 2 else marks
    if marks.ndim != 3 or marks.shape[1:] != shape[1:] or len(marks) not in (1, shape[0]):
        raise BadInput(f"{name}: the array {key} has shape {given.shape}, the fields are {shape}; save one of the same size")
    if marks.dtype != bool and not np.isin(marks, (0, 1)).all():
        raise BadInput(f"{name}: the array {key} holds other values than True and False, 1 and 0; save it as bool")
    hole = marks.astype(bool) if key == "mask" else ~marks.astype(bool)
    return np.broadcast_to(hole, shape)


def _check_finite(values: NDArray, where: NDArray[np.bool_], name: str) -> None:
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(np.float32, copy=False)) & where[..., None]
    if bad.any():
        item, row, column, channel = np.argwhere(bad)[0]
        place = f"item {item}, row {row}, column {column}, channel {channel}"
        raise BadInput(f"{name}: holds {values[item, row, column, channel]} ({place}); put a number there, or mark it as not known")
