"""Masks: which pixels are the hole. White, 1 and True mean hole, everywhere outside the formulas.

The rule for a mask picture: its brightness (luma) times its alpha, at least half of white = hole. A mask of another size
is refused, never resized.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.picture import LIMITS, LUMA, Limits, Picture, from_array
from inpaintkit.data.reading import from_pil, kind_of, printable, read_bytes, read_npy, read_picture

Hole = NDArray[np.bool_]
"""(H, W), True = hole."""


def read_mask(source: Any, size: tuple[int, int], invert: bool = False, limits: Limits = LIMITS, name: str | None = None) -> Hole:
    """The hole in a mask for a picture of `size` (W, H): bool (H, W), True = hole.

    `source`: the path or bytes of a picture or of a .npy array, an array, a tensor or a Pillow image. Arrays hold bool,
    0 and 1, integers up to white (255 or 65535), or floats in [0, 1]. `invert` is for masks where white means keep.
    Raises `BadInput` for another size, values of unclear meaning, and all that `read_picture` refuses. An empty mask
    passes: `check_hole` refuses it, once boxes and masks are joined.
    """
    return read_mask_noted(source, size, invert, limits, name)[0]


def read_mask_noted(
    source: Any, size: tuple[int, int], invert: bool = False, limits: Limits = LIMITS, name: str | None = None
) -> tuple[Hole, tuple[str, ...]]:
    """As `read_mask`, and what was noted: many gray values, JPEG, colours."""
    notes: tuple[str, ...] = ()
    if isinstance(source, str | Path | bytes):
        data, name = read_bytes(source, limits, name)
        if kind_of(data) == "NPY":
            hole = _from_array(_unwrapped(read_npy(data, name)), name)
        else:
            picture = read_picture(data, limits, name)
            hole, notes = _from_picture(picture), mask_notes(picture)
    else:
        name = printable(name or "mask")
        if isinstance(source, Image.Image):
            picture = from_pil(source, name)
            hole, notes = _from_picture(picture), mask_notes(picture)
        else:
            hole = _from_array(_unwrapped(source), name)
    if hole.shape != (size[1], size[0]):
        raise BadInput(
            f"{name}: the mask is {hole.shape[1]}x{hole.shape[0]} and the picture is {size[0]}x{size[1]} (width x height, upright); "
            "make a mask of the picture's size"
        )
    return (~hole if invert else hole), notes


def mask_notes(picture: Picture) -> tuple[str, ...]:
    """What looks unintended in a mask picture, one sentence each: much gray, JPEG, colours, transparency."""
    notes = []
    brightness = _brightness(picture)
    gray = float(((brightness > 0.02) & (brightness < 0.98)).mean())
    if gray > 0.01:
        notes.append(f"{gray:.0%} of the mask is gray; values of at least half count as hole")
    if 0 < brightness.max() < 0.5:
        notes.append(f"no pixel of the mask reaches half of white; the brightest has {brightness.max():.1%} of it")
    if picture.lossy and picture.format != "GIF":
        notes.append(f"the mask is a lossy {picture.format}; its edges may be off by a few pixels, PNG is exact")
    if picture.pixels.shape[2] == 3 and (picture.pixels != picture.pixels[:, :, :1]).any():
        notes.append("the mask has colours; their brightness was used")
    if picture.alpha is not None and (picture.alpha < picture.span[1]).any():
        notes.append("the mask has transparency; clear parts count as known")
    return tuple(notes)


def mask_from_boxes(boxes: list[tuple[int, int, int, int]], size: tuple[int, int]) -> Hole:
    """A hole of boxes (x, y, w, h) in pixels in a picture of `size` (W, H). Raises `UsageError` for a box that leaves it."""
    hole = np.zeros((size[1], size[0]), bool)
    for x, y, w, h in boxes:
        if x < 0 or y < 0 or w < 1 or h < 1 or x + w > size[0] or y + h > size[1]:
            raise UsageError(
                f"box {x},{y},{w},{h}: leaves the picture of {size[0]}x{size[1]} or is empty; "
                f"give X,Y,W,H with X + W at most {size[0]} and Y + H at most {size[1]}"
            )
        hole[y : y + h, x : x + w] = True
    return hole


def mask_from_alpha(picture: Picture) -> Hole:
    """The transparent part (alpha below half). Raises `BadInput` when the picture has no alpha channel."""
    if picture.alpha is None:
        raise BadInput(f"{picture.name}: has no alpha channel; pass a mask, or a picture whose hole is transparent")
    return picture.alpha.astype(np.float64) < picture.span[1] / 2


def mask_from_color(picture: Picture, color: str) -> Hole:
    """The pixels of exactly this colour, "#rrggbb" (at 16 bits 257 times the values). Raises `UsageError` for another text."""
    digits = color.removeprefix("#")
    if len(digits) != 6 or any(c not in "0123456789abcdefABCDEF" for c in digits):
        raise UsageError(f"color {color!r}: is not a colour; write it as #rrggbb, for example #ff00ff")
    low, high = picture.span
    wanted = low + np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) * ((high - low) / 255)
    tolerance = 0.0 if picture.pixels.dtype.kind == "u" else 1e-3  # floats: a 255th, however it was rounded
    return np.asarray((abs(picture.pixels.astype(np.float64) - wanted) <= tolerance).all(axis=2))


def mask_from_nan(picture: Picture | NDArray) -> Hole:
    """The pixels with a NaN in any channel of a float picture or array (H, W[, C]). Raises `BadInput` for integers."""
    values, name = (picture.pixels, picture.name) if isinstance(picture, Picture) else (np.asarray(picture), "array")
    if values.dtype.kind != "f":
        raise BadInput(f"{name}: holds {values.dtype} values, which cannot be NaN; pass a mask")
    return np.asarray(np.isnan(values.reshape(*values.shape[:2], -1)).any(axis=2))


def check_hole(hole: Hole, name: str, picture: Picture | None = None) -> tuple[str, ...]:
    """Notes about a usable hole: everything, or more than 90 %. Raises `BadInput` when it is empty.

    With `picture`, also raises `BadInput` when values outside the hole are NaN: they would be neither known nor filled.
    """
    if not hole.any():
        raise BadInput(f"{name}: the mask has no hole, no pixel of it is white; paint what is to be filled white, or invert the mask")
    if picture is not None and (picture.missing & ~hole).any():
        raise BadInput(f"{picture.name}: has NaN in pixels that are not in the hole; add them to the mask, or pass --mask-from nan")
    share = float(hole.mean())
    if share == 1:
        return ("the hole is the whole picture: nothing is known, the model makes up everything",)
    if share > 0.9:
        return (f"{share:.0%} of the picture is hole",)
    return ()


def known_from_hole(hole: Hole | Tensor) -> Tensor:
    """The one converter to the formulas: hole (H, W) bool, True = hole, to known (1, 1, H, W) float32, 1 = known."""
    values = torch.as_tensor(hole)
    if values.dtype != torch.bool or values.ndim != 2:
        raise ValueError(f"a hole is bool (H, W), not {values.dtype} {tuple(values.shape)}")
    return (~values).float()[None, None]


def _brightness(picture: Picture) -> NDArray[np.float32]:
    low, high = picture.span
    values = (picture.pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    gray = values[:, :, 0] if values.shape[2] == 1 else values @ np.array(LUMA, np.float32)
    return gray if picture.alpha is None else gray * (picture.alpha.astype(np.float32) / np.float32(high))


def _from_picture(picture: Picture) -> Hole:
    if picture.pixels.max() == 1:
        raise BadInput(f"{picture.name}: holds only 0 and 1 of {picture.span[1]:.0f}, all black; multiply it by {picture.span[1]:.0f}")
    return _brightness(picture) >= 0.5


def _unwrapped(source: Any) -> NDArray:
    """An array or tensor without its axes of length one around (H, W): (1, 1, H, W), (1, H, W) and (H, W, 1) are masks too."""
    values = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    return values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values


def _from_array(values: NDArray, name: str) -> Hole:
    """The rule for arrays: bool as it is, 0 and 1, integers against white (255, or 65535 for uint16), floats in [0, 1]."""
    if values.ndim == 3 and values.shape[2] in (2, 3, 4):
        values = values.astype(np.uint8) * np.uint8(255) if values.dtype == bool else values
        return _from_picture(from_array(values, name))
    if values.ndim != 2 or values.size == 0:
        raise BadInput(f"{name}: the mask has shape {values.shape}; pass (H, W)")
    if values.dtype == bool:
        return values.copy()
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise BadInput(f"{name}: the mask holds NaN; use 1 for hole and 0 for known")
    if values.dtype.kind not in "uif":
        raise BadInput(f"{name}: the mask has dtype {values.dtype}; use bool, 1 for hole and 0 for known")
    smallest, largest = values.min(), values.max()
    white = 1 if values.dtype.kind == "f" or largest <= 1 else 65535 if values.dtype == np.uint16 and largest > 255 else 255
    if smallest < 0 or largest > white:
        raise BadInput(f"{name}: the mask has values from {smallest:g} to {largest:g}; use 1 for hole and 0 for known, or 0 to 255")
    return values >= white / 2
