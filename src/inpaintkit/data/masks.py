"""Procedural masks: bool arrays `(H, W)`, True = hole. Every generator takes its size and a `numpy.random.Generator`.

The stroke recipes follow LaMa's published parameters at 256 px (Suvorov et al. 2022, supplement), with the angle
drawn continuously instead of in whole radians.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Rng = np.random.Generator
Mask = np.ndarray


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


def everything(size: tuple[int, int], rng: Rng) -> Mask:
    """The whole picture: nothing is known."""
    return np.ones((size[1], size[0]), bool)


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
}
