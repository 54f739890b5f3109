"""Where the hole of a picture comes from on the command line."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inpaintkit.core.errors import UsageError
from inpaintkit.data.images import Hole, Limits, Picture, mask_from_alpha, mask_from_boxes, mask_from_color, mask_from_nan, read_mask_noted
from inpaintkit.data.picture import check_size

if TYPE_CHECKING:
    from inpaintkit.apps.cli.fill import Fill


def joined(args: "Fill", picture: Picture) -> tuple[Hole, str, tuple[str, ...]]:
    """The union of every hole that was named, the name of its source, and notes."""
    holes: list[Hole] = []
    name, notes = picture.name, tuple[str, ...]()
    if args.mask is not None:
        hole, notes = read_mask_noted(args.mask, picture.size, args.invert_mask, args.limits)
        holes.append(hole)
        name = str(args.mask)
    elif args.invert_mask:
        raise UsageError("--invert-mask: there is no MASK file to invert; give one, or leave --invert-mask out")
    if args.box:
        holes.append(mask_from_boxes([numbers(text, "--box", "X,Y,W,H") for text in args.box], picture.size))
    if args.hole == "all":
        holes.append(np.ones(picture.size[::-1], bool))
    if args.mask_from is not None:
        holes.append(_from_picture(args.mask_from, picture))
    if args.outpaint is not None:
        holes.append(np.zeros(picture.size[::-1], bool))
    if not holes:
        raise UsageError(
            f"{picture.name}: no hole was named; give a MASK file, --box X,Y,W,H, --mask-from alpha, --outpaint L,T,R,B or --hole all"
        )
    return np.logical_or.reduce(holes), name, notes


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
