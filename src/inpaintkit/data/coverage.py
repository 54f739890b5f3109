"""Masks of every kind whose coverage, the share of hole pixels counted at the final size, lies in a range asked for.

Kinds that a rank or a size decides are solved for it: `blobs` and `sparse` by the number of pixels; `half` is one straight cut,
turned by up to 10 degrees, where the coverage says; `outpaint` scales its depths; `box` picks its sides; `lines` are every second
line of a window (2 of 3, then 3 of 4, where half of the picture is not enough). Strokes, scratches and text are drawn
again and joined; one that stays too large is cut off along a straight line, so that it always ends.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.masks import MASKS, Mask, Rng, check_kind, highest, smooth_field

COVERAGE = (0.05, 0.60)
"""Range unless another is asked for (the Surrey dissertation's)."""
BIN = 0.05
FIXED = ("all", "right-half", "expand", "altern-lines", "super-resolve")
"""Kinds of one mask only, whatever the generator."""
ZOOMED = ("thin", "medium", "thick", "box", "scratches")
"""Kinds that can be drawn on a larger canvas and cropped, so that strokes come at all relative widths."""
TOO_LARGE = 12
"""So many masks in a row may be too large before one is cut."""
DRAWN = 1000
"""So many may be joined: far more than 60 % take of any kind, and an end where a size leaves a kind empty."""


def zoomed(kind: str, size: tuple[int, int], rng: Rng, zoom: Sequence[int] = (1,)) -> Mask:
    """A mask (H, W) of a kind; one of `ZOOMED` is cropped from a canvas larger by a random factor of `zoom`, and may be empty."""
    factor = int(rng.choice(zoom)) if kind in ZOOMED else 1
    w, h = size
    left, top = rng.integers([factor * w - w + 1, factor * h - h + 1])
    return MASKS[kind]((factor * w, factor * h), rng)[top : top + h, left : left + w]


def strata(low: float, high: float) -> list[tuple[float, float]]:
    """[low, high] cut into equal bins of about 5 %: 11 of them for 5 to 60 %."""
    count = max(1, round((high - low) / BIN))
    edges = np.linspace(low, high, count + 1).tolist()
    return list(pairwise(edges))


def covering(
    kind: str, size: tuple[int, int], rng: Rng, low: float = COVERAGE[0], high: float = COVERAGE[1], zoom: Sequence[int] = (1,)
) -> Mask:
    """A mask (H, W) of a kind of which `low` to `high` of the pixels are hole, both included; `size` is (W, H).

    Raises `UsageError` for an unknown kind, a range that is none, and a kind of one mask that covers another share, and
    `BadInput` when no such mask has a number of pixels in the range (a few pixels, or a very narrow range).
    """
    check_kind(kind)
    if not 0 <= low <= high <= 1:
        raise UsageError(f"coverage = ({low:g}, {high:g}): not a range; give two shares of the picture from 0 to 1, the smaller first")
    pixels = size[0] * size[1]
    least, most = max(1, math.ceil(low * pixels - 1e-9)), math.floor(high * pixels + 1e-9)
    hole = None
    if kind in FIXED:
        hole = MASKS[kind](size, rng)
        if not least <= hole.sum() <= most:
            raise UsageError(f"{kind}: always covers {hole.mean():.4g} of the picture, not {low:g} to {high:g}; leave it out")
    elif least <= most:
        hole = SOLVED[kind](size, rng, least, most) if kind in SOLVED else _joined(kind, size, rng, least, most, zoom)
    if hole is None:
        raise BadInput(
            f"{kind}: no such mask of {size[0]}x{size[1]} pixels covers {low:g} to {high:g}; widen the range or take more pixels"
        )
    return hole


def _blobs(size: tuple[int, int], rng: Rng, least: int, most: int) -> Mask:
    return highest(smooth_field(size, rng), int(rng.integers(least, most + 1)))


def _sparse(size: tuple[int, int], rng: Rng, least: int, most: int) -> Mask:
    return highest(rng.random((size[1], size[0])), int(rng.integers(least, most + 1)))


def _half(size: tuple[int, int], rng: Rng, least: int, most: int) -> Mask:
    return highest(_ramp(size, rng.integers(4) * np.pi / 2 + np.radians(rng.uniform(-10, 10))), int(rng.integers(least, most + 1)))


def _ramp(size: tuple[int, int], angle: float) -> np.ndarray:
    """(H, W), rising in the direction `angle`."""
    return np.cos(angle) * np.arange(size[0]) + np.sin(angle) * np.arange(size[1])[:, None]


def _outpaint(size: tuple[int, int], rng: Rng, least: int, most: int) -> Mask | None:
    """As `masks.outpaint`, all depths scaled alike."""
    w, h = size
    scale = np.linspace(0, 8, 16 * max(size))  # 8 times an eighth is the whole picture; a step deepens a side by a pixel at most
    for _ in range(100):
        sides = rng.random(4) < 0.5
        sides[rng.integers(4)] = True
        depths = (scale[:, None] * sides * rng.uniform(0.125, 0.375, 4) * (h, h, w, w)).astype(int)
        known = (h - depths[:, 0] - depths[:, 1]).clip(0) * (w - depths[:, 2] - depths[:, 3]).clip(0)
        fit = np.flatnonzero((least <= w * h - known) & (w * h - known <= most))
        if len(fit):
            top, bottom, left, right = depths[rng.choice(fit)]
            hole = np.ones((h, w), bool)
            hole[top : max(h - bottom, top), left : max(w - right, left)] = False
            return hole
    return None


def _sides(
    rng: Rng, least: int, most: int, longest: tuple[int, int], shape: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Sequence[int]:
    """Two whole numbers up to `longest` whose product is in the range, preferably where `shape` of them holds; () if there are none."""
    first = np.arange(1, longest[0] + 1)
    low, high = -(-least // first), np.minimum(most // first, longest[1])
    possible = low <= high
    wanted = possible & shape(first, high)
    if not possible.any():
        return ()
    one = int(rng.choice(first[wanted if wanted.any() else possible]))
    return one, int(rng.integers(low[one - 1], high[one - 1] + 1))


def _box(size: tuple[int, int], rng: Rng, least: int, most: int) -> Mask | None:
    """One side at most three times the other, where the picture has room for that."""
    sides = _sides(rng, least, most, size, lambda bw, bh: (bw <= 3 * bh) & (bh <= 3 * bw))
    if not sides:
        return None
    hole = np.zeros((size[1], size[0]), bool)
    x, y = rng.integers(size[0] - sides[0] + 1), rng.integers(size[1] - sides[1] + 1)
    hole[y : y + sides[1], x : x + sides[0]] = True
    return hole


def _lines(size: tuple[int, int], rng: Rng, least: int, most: int) -> Mask | None:
    """Rows or columns of a window at least half as long as the picture, with known ones between them."""
    hole = np.zeros((size[1], size[0]), bool)
    view = hole if rng.random() < 0.5 else hole.T
    across, along = view.shape
    for period in range(2, across + 2):
        sides = _sides(rng, least, most, (along, across - across // period), lambda length, _: 2 * length >= along)
        if sides:
            length, count = sides
            rows = np.flatnonzero(np.arange(across) % period != period - 1)[:count]
            rows += rng.integers(across - rows[-1])
            start = rng.integers(along - length + 1)
            view[rows, start : start + length] = True
            return hole
    return None


def _joined(kind: str, size: tuple[int, int], rng: Rng, least: int, most: int, zoom: Sequence[int]) -> Mask | None:
    """The first mask that fits, alone or joined to smaller ones drawn before it; after many that are too large, a part of one."""
    hole = np.zeros((size[1], size[0]), bool)
    for _ in range(DRAWN):
        for _ in range(TOO_LARGE):
            alone = zoomed(kind, size, rng, zoom)
            joined = hole | alone
            if least <= alone.sum() <= most:
                return alone
            if joined.sum() <= most:
                break
        else:
            added = joined & ~hole
            needed = int(rng.integers(least, most + 1) - hole.sum())
            joined = hole | highest(np.where(added, _ramp(size, rng.uniform(0, 2 * np.pi)), -np.inf), min(needed, int(added.sum())))
        hole = joined
        if hole.sum() >= least:
            return hole
    return None


SOLVED: dict[str, Callable[[tuple[int, int], Rng, int, int], Mask | None]] = {
    "blobs": _blobs,
    "sparse": _sparse,
    "half": _half,
    "outpaint": _outpaint,
    "box": _box,
    "lines": _lines,
}
