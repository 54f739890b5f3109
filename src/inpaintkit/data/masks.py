"""Procedural masks: bool arrays `(H, W)`, True = hole. Every generator takes its size and a `numpy.random.Generator`.

The stroke recipes follow LaMa's published parameters at 256 px (Suvorov et al. 2022, supplement), with the angle
drawn continuously instead of in whole radians.
"""

from collections.abc import Callable
from difflib import get_close_matches

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from inpaintkit.core.errors import BadInput, UsageError

Rng = np.random.Generator
Mask = np.ndarray
WORDS = ("lorem", "ipsum", "dolor", "sit", "amet", "SAMPLE", "proof", "copyright", "2026", "draft", "photo", "studio")


def strokes(size: tuple[int, int], rng: Rng, count: tuple[int, int], length: int, width: int) -> Mask:
    """Brush strokes: `count` polylines of 1-5 segments, each up to `length` long and `width` wide (pixels at 256 px)."""
    w, h = size
    scale = max(w, h) / 256
    canvas = Image.new("1", size)
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        for _ in range(rng.integers(1, 6)):
            angle, reach = rng.uniform(0, 2 * np.pi), (10 + rng.uniform(0, length)) * scale
            thick = max(1, round((5 + rng.uniform(0, width)) * scale))
            end_x, end_y = np.clip(x + reach * np.cos(angle), 0, w), np.clip(y + reach * np.sin(angle), 0, h)
            draw.line([(x, y), (end_x, end_y)], fill=1, width=thick)
            for cx, cy in ((x, y), (end_x, end_y)):
                draw.ellipse([cx - thick / 2, cy - thick / 2, cx + thick / 2, cy + thick / 2], fill=1)
            x, y = end_x, end_y
    return np.array(canvas)


def boxes(size: tuple[int, int], rng: Rng, count: tuple[int, int], side: tuple[int, int]) -> Mask:
    """`count` axis-parallel boxes with sides in the range `side` (pixels at 256 px)."""
    w, h = size
    scale = max(w, h) / 256
    hole = np.zeros((h, w), bool)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        bw, bh = (max(1, round(s * scale)) for s in rng.integers(side[0], side[1] + 1, 2))
        x, y = rng.integers(0, max(w - bw, 0) + 1), rng.integers(0, max(h - bh, 0) + 1)
        hole[y : y + bh, x : x + bw] = True
    return hole


def thin(size: tuple[int, int], rng: Rng) -> Mask:
    """LaMa's thin masks: many narrow strokes."""
    return strokes(size, rng, (4, 50), 40, 10)


def medium(size: tuple[int, int], rng: Rng) -> Mask:
    """LaMa's medium masks: strokes (77 %) or boxes."""
    return strokes(size, rng, (4, 5), 100, 50) if rng.random() < 0.77 else boxes(size, rng, (1, 5), (10, 50))


def thick(size: tuple[int, int], rng: Rng) -> Mask:
    """LaMa's thick masks: strokes (77 %) or boxes."""
    return strokes(size, rng, (1, 5), 200, 100) if rng.random() < 0.77 else boxes(size, rng, (1, 3), (30, 150))


def box(size: tuple[int, int], rng: Rng) -> Mask:
    """One box of a fifth to three fifths of each side."""
    return boxes(size, rng, (1, 1), (51, 154))


def half(size: tuple[int, int], rng: Rng) -> Mask:
    """One half of the picture, on any side."""
    w, h = size
    hole = np.zeros((h, w), bool)
    (hole[: h // 2], hole[h - h // 2 :], hole[:, : w // 2], hole[:, w - w // 2 :])[rng.integers(4)][...] = True
    return hole


def outpaint(size: tuple[int, int], rng: Rng) -> Mask:
    """A frame: each side with probability one half (at least one), an eighth to three eighths of it."""
    w, h = size
    hole = np.zeros((h, w), bool)
    sides = rng.random(4) < 0.5
    sides[rng.integers(4)] = True
    for side, chosen in enumerate(sides):
        if chosen:
            depth = max(1, int((h if side < 2 else w) * rng.uniform(0.125, 0.375)))
            (hole[:depth], hole[h - depth :], hole[:, :depth], hole[:, w - depth :])[side][...] = True
    return hole


def sparse(size: tuple[int, int], rng: Rng) -> Mask:
    """Single pixels: 30 to 95 % of them are missing."""
    return rng.random((size[1], size[0])) < rng.uniform(0.3, 0.95)


def lines(size: tuple[int, int], rng: Rng) -> Mask:
    """Every second row or column is missing (RePaint's alternating lines)."""
    hole = np.zeros((size[1], size[0]), bool)
    (hole if rng.random() < 0.5 else hole.T)[rng.integers(2) :: 2] = True
    return hole


def scratches(size: tuple[int, int], rng: Rng) -> Mask:
    """Long thin lines, slightly bent, one to three pixels wide, and dust."""
    w, h = size
    canvas = Image.new("1", size)
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(2, 12)):
        start, angle, bend = rng.uniform(0, 1, 2) * (w, h), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.05)
        points = [tuple(start)]
        for _ in range(rng.integers(4, 16)):
            angle += bend + rng.normal(0, 0.05)
            start = start + max(w, h) / 12 * np.array([np.cos(angle), np.sin(angle)])
            points.append(tuple(start))
        draw.line(points, fill=1, width=int(rng.integers(1, 4)))
    for x, y in rng.uniform(0, 1, (rng.integers(0, 20), 2)) * (w, h):
        radius = rng.uniform(0.5, 2)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=1)
    return np.array(canvas)


def text(size: tuple[int, int], rng: Rng) -> Mask:
    """One to four lines of words, as a watermark or caption: a twentieth to a fifth of the height tall, some of them slanted."""
    w, h = size
    hole = np.zeros((h, w), bool)
    for _ in range(rng.integers(1, 5)):
        font = ImageFont.load_default(max(8, round(h * rng.uniform(0.05, 0.2))))
        line = " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=rng.integers(1, 4)))
        middle = rng.uniform(0.2, 0.8) * w, rng.uniform(0.1, 0.9) * h
        canvas = Image.new("1", size)
        ImageDraw.Draw(canvas).text(middle, line, 1, font, anchor="mm")
        if rng.random() < 0.5:
            canvas = canvas.rotate(rng.uniform(-30, 30), center=middle)
        hole |= np.array(canvas)
    return hole


def smooth_field(size: tuple[int, int], rng: Rng) -> np.ndarray:
    """Gaussian noise (H, W), float64, low-passed by a Gaussian of 2 to 12 % of the longer side: the landscape of `blobs`."""
    spread = max(size) * np.exp(rng.uniform(np.log(0.02), np.log(0.12)))
    return ndimage.gaussian_filter(rng.standard_normal((size[1], size[0])), spread)


def highest(field: np.ndarray, count: int) -> Mask:
    """The `count` pixels with the largest values of `field` (H, W), which should differ: among equal ones the choice is open."""
    hole = np.zeros(field.size, bool)
    if count:
        hole[np.argpartition(-field, count - 1, axis=None)[:count]] = True
    return hole.reshape(field.shape)


def blobs(size: tuple[int, int], rng: Rng) -> Mask:
    """Rounded patches: a smooth random field above its quantile, 5 to 60 % of the picture, exact to one pixel."""
    pixels = size[0] * size[1]
    field = smooth_field(size, rng)
    return highest(field, min(max(1, round(pixels * rng.uniform(0.05, 0.6))), pixels - 1))


def everything(size: tuple[int, int], rng: Rng) -> Mask:
    """The whole picture: nothing is known."""
    return np.ones((size[1], size[0]), bool)


def right_half(size: tuple[int, int], rng: Rng) -> Mask:
    """RePaint's half: the left half is known."""
    hole = np.zeros((size[1], size[0]), bool)
    hole[:, size[0] // 2 :] = True
    return hole


def expand(size: tuple[int, int], rng: Rng) -> Mask:
    """RePaint's expand: only the middle is known, a quarter of each side."""
    w, h = size
    hole = np.ones((h, w), bool)
    hole[h // 2 - h // 8 : h // 2 + h // 8, w // 2 - w // 8 : w // 2 + w // 8] = False
    return hole


def alternating_lines(size: tuple[int, int], rng: Rng) -> Mask:
    """RePaint's alternating lines: every second row is missing, the first is known."""
    hole = np.zeros((size[1], size[0]), bool)
    hole[1::2] = True
    return hole


def super_resolve(size: tuple[int, int], rng: Rng) -> Mask:
    """RePaint's super-resolve 2x: of every 2x2 pixels the top left one is known."""
    hole = np.ones((size[1], size[0]), bool)
    hole[::2, ::2] = False
    return hole


MASKS: dict[str, Callable[[tuple[int, int], Rng], Mask]] = {
    "thin": thin,
    "medium": medium,
    "thick": thick,
    "box": box,
    "half": half,
    "outpaint": outpaint,
    "sparse": sparse,
    "lines": lines,
    "scratches": scratches,
    "all": everything,
    "text": text,
    "blobs": blobs,
    "wide": thick,
    "narrow": thin,
    "right-half": right_half,
    "expand": expand,
    "altern-lines": alternating_lines,
    "super-resolve": super_resolve,
}
REPAINT = ("wide", "narrow", "super-resolve", "altern-lines", "right-half", "expand")
"""The six kinds of RePaint's tables (Lugmayr et al. 2022, section 5), in their order; its "Half" is `right-half`."""


def draw(kind: str, size: tuple[int, int], seed: int) -> Mask:
    """The mask of a kind and seed, the same on every machine; drawn again while it has no hole. `size` is (W, H).

    Raises `UsageError` for an unknown kind, and `BadInput` for a size at which it never has one.
    """
    check_kind(kind)
    rng = np.random.default_rng(seed)
    for _ in range(100):
        if (hole := MASKS[kind](size, rng)).any():
            return hole
    raise BadInput(f"{kind}: has no hole at {size[0]}x{size[1]} pixels; choose a larger size or another kind")


def check_kind(kind: str, place: str = "") -> None:
    """Raise `UsageError` for a name that is not in `MASKS`, with a near one; `place` is put before it."""
    if kind not in MASKS:
        close = get_close_matches(kind, MASKS, 1)
        raise UsageError(
            f"{place}{kind}: no such kind of mask; " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(MASKS)}")
        )
