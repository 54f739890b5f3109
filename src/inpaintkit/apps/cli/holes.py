"""Where the picture and its hole come from on the command line."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from inpaintkit.apps.cli.options import Holed, Picturing
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.images import (
    Hole,
    Limits,
    Picture,
    check_hole,
    mask_from_alpha,
    mask_from_boxes,
    mask_from_color,
    mask_from_nan,
    read_mask_noted,
    read_picture,
)
from inpaintkit.data.picture import check_size


class Masked(Protocol):
    """What names a mask."""

    @property
    def mask(self) -> Path | None: ...
    @property
    def invert_mask(self) -> bool: ...


def given(args: Picturing, prog: str) -> Picture:
    """The picture that was named. Raises `UsageError` when none was."""
    if args.image is None:
        raise UsageError(f"{prog}: IMAGE is missing; {prog} --help says what is needed")
    return read_picture(args.image, args.limits)


def none_named(args: Holed) -> bool:
    return args.mask is None and not args.box and args.mask_from is None and not args.invert_mask


def joined(args: Holed, picture: Picture, more: Sequence[Hole] = (), others: str = "") -> tuple[Hole, str, tuple[str, ...]]:
    """The union of every hole that was named, the name of its source, and notes; `more` are holes named in other ways."""
    holes = list(more)
    name, notes = picture.name, tuple[str, ...]()
    if args.mask is not None:
        hole, notes = read_mask_noted(args.mask, picture.size, args.invert_mask, args.limits)
        holes.append(hole)
        name = str(args.mask)
    elif args.invert_mask:
        raise UsageError("--invert-mask: there is no MASK file to invert; give one, or leave --invert-mask out")
    if args.box:
        holes.append(mask_from_boxes([numbers(text, "--box", "X,Y,W,H") for text in args.box], picture.size))
    if args.mask_from is not None:
        holes.append(_from_picture(args.mask_from, picture))
    if not holes:
        raise UsageError(f"{picture.name}: no hole was named; give a MASK file, --box X,Y,W,H{others} or --mask-from alpha")
    return np.logical_or.reduce(holes), name, notes


def usable(args: Masked, hole: Hole, name: str, picture: Picture, noted: Sequence[str]) -> tuple[str, ...]:
    """Notes about a usable hole. Raises `BadInput` when it is empty, with what was `noted` of the mask as the cause."""
    if not hole.any() and args.mask is not None:
        if args.invert_mask:
            raise BadInput(f"{name}: all of it is white, which --invert-mask takes for known; paint what is to be filled black")
        if noted:
            raise BadInput(f"{name}: the mask has no hole ({'; '.join(noted)}); paint what is to be filled white")
        raise BadInput(f"{name}: the mask has no hole, no pixel of it is white; paint what is to be filled white, or pass --invert-mask")
    notes = check_hole(hole, name, picture)
    if 0.9 < hole.mean() < 1 and args.mask is not None:
        meant, how = ("fill", "leave --invert-mask out") if args.invert_mask else ("keep", "pass --invert-mask")
        return *notes, f"if white marks what to {meant}, {how}"
    return notes


def enlarged(picture: Picture, hole: Hole, frame: str, limits: Limits) -> tuple[Picture, Hole]:
    """The picture with an unknown frame of left, top, right and bottom pixels around it."""
    left, top, right, bottom = numbers(frame, "--outpaint", "L,T,R,B")
    if min(left, top, right, bottom) < 0 or left + top + right + bottom == 0:
        raise UsageError(f"--outpaint = {frame}: give four numbers of pixels, none negative and one at least 1")
    sides = ((top, bottom), (left, right))
    width, height = picture.size[0] + left + right, picture.size[1] + top + bottom
    check_size(picture.name, width, height, picture.pixels.itemsize * 4, limits)
    alpha = None if picture.alpha is None else np.pad(picture.alpha, sides, constant_values=picture.span[1])
    pixels = np.pad(picture.pixels, (*sides, (0, 0)))
    return replace(picture, pixels=pixels, alpha=alpha), np.pad(hole, sides, constant_values=True)


def numbers(text: str, option: str, form: str) -> tuple[int, int, int, int]:
    """Four whole numbers with commas between them."""
    try:
        a, b, c, d = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} = {text}: write {form}, four whole numbers of pixels with commas between them") from None
    return a, b, c, d


def _from_picture(source: str, picture: Picture) -> Hole:
    if source == "alpha":
        return mask_from_alpha(picture)
    if source == "nan":
        return mask_from_nan(picture)
    if source.startswith("color:"):
        return mask_from_color(picture, source.removeprefix("color:"))
    raise UsageError(f"--mask-from = {source}: is not known; use alpha, nan or color:#rrggbb")
