"""The kinds of damage, one function each: how much of each pixel it covers, and with what.

Each takes a picture and another one, both `(3, H, W)` in [-1, 1], a hole `(H, W)` bool and a generator. Where the damage
is, it takes from the hole, or, when it has a shape of its own (scratches, letters, stains, folds), it draws that.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from inpaintkit.data import masks
from inpaintkit.data.masks import highest

Rng = np.random.Generator
Layer = tuple[np.ndarray, np.ndarray]
"""Colours that broadcast to (3, H, W), in [-1, 1], and how much of each pixel they cover, (H, W) in [0, 1]."""


def solid(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """One colour; often exactly black, white or mid-grey."""
    return _color(rng), _edged(hole, rng)


def noise(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """Noise around a colour: uniform or Gaussian, coloured or grey, single pixels or blotches."""
    shape = (3 if rng.random() < 0.7 else 1, *hole.shape)
    values = rng.uniform(-1, 1, shape) if rng.random() < 0.5 else rng.normal(0, 0.6, shape)
    if rng.random() < 0.4:
        spread = rng.uniform(0.6, 4)
        values = ndimage.gaussian_filter(values, (0, spread, spread))
        values *= 0.5 / max(values.std(), 1e-6)
    return np.clip(values + rng.uniform(0, 0.7) * _color(rng), -1, 1), _edged(hole, rng)


def graffiti(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """Strokes of one to three strong colours, with the soft or speckled rim of a marker or a spray can."""
    size = hole.shape[::-1]
    colors, alpha = np.zeros((3, *hole.shape)), np.zeros(hole.shape)
    for _ in range(rng.integers(1, 4)):
        stroke = _soft(masks.strokes(size, rng, (1, 3), 120, 24), rng.uniform(0, 2))
        if rng.random() < 0.3:
            stroke *= rng.random(hole.shape) < stroke * 1.5  # spray
        colors, alpha = np.where(stroke > alpha * 0.5, _strong(rng), colors), np.maximum(alpha, stroke)
    return colors, alpha * rng.uniform(0.75, 1)


def lettering(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """Words in one colour, opaque or as a watermark, some with an outline or shadow."""
    letters = _fine(masks.text, hole.shape, rng)
    color = _color(rng) if rng.random() < 0.6 else _strong(rng)
    strength = 1.0 if rng.random() < 0.5 else rng.uniform(0.35, 0.9)
    if rng.random() < 0.4:
        shadow = np.roll(letters, rng.integers(-2, 3, 2), (0, 1)) if rng.random() < 0.5 else ndimage.maximum_filter(letters, 3)
        below = 1.0 if color.mean() < 0 else -1.0
        alpha = np.maximum(letters, shadow)
        return below + (color - below) * letters / np.maximum(alpha, 1e-6), alpha * strength
    return color, letters * strength


def scratch(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """Thin bright or dark lines and dust, slightly transparent, broken in places."""
    alpha = _fine(masks.scratches, hole.shape, rng) * rng.uniform(0.5, 1)
    if rng.random() < 0.5:
        alpha = alpha * np.clip(1.2 + 0.8 * _uneven(hole.shape, rng), 0, 1)
    bright = 1.0 if rng.random() < 0.65 else -1.0
    tint = bright * rng.uniform(0.5, 1) + rng.normal(0, 0.08, (3, 1, 1))
    return np.clip(tint + rng.normal(0, 0.1, hole.shape), -1, 1), alpha


def stain(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """Patches that tint what is below them, like spilt ink or mould, with a darker rim or uneven inside."""
    patch = highest(_uneven(hole.shape, rng), max(1, round(hole.size * rng.uniform(0.02, 0.3))))
    alpha = _soft(patch, rng.uniform(0.5, 3)) * rng.uniform(0.4, 1)
    if rng.random() < 0.5:
        alpha = alpha * np.clip(0.8 + 0.2 * _uneven(hole.shape, rng), 0.3, 1)
    if rng.random() < 0.4:
        inside = ndimage.distance_transform_edt(patch)
        alpha = alpha * np.where(inside < rng.uniform(2, 5), 1, rng.uniform(0.5, 0.9))
    return _tinted(picture, rng), alpha


def fold(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """One or two lines right across the picture, nearly straight, where the paper is creased and its colour gone."""
    h, w = hole.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    alpha = np.zeros(hole.shape)
    for _ in range(rng.integers(1, 3)):
        angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.15) if rng.random() < 0.7 else rng.uniform(0, np.pi)
        across = (x - rng.uniform(0.15, 0.85) * w) * np.sin(angle) - (y - rng.uniform(0.15, 0.85) * h) * np.cos(angle)
        across = across + rng.uniform(0.3, 1.5) * _uneven(hole.shape, rng, 4)
        crease = np.clip(rng.uniform(0.8, 3) - np.abs(across), 0, 1)
        alpha = np.maximum(alpha, crease * np.clip(1 + 0.6 * rng.standard_normal((h, w)), 0.2, 1))
    bright = rng.uniform(0.5, 1) if rng.random() < 0.75 else rng.uniform(-1, -0.5)
    return np.clip(bright + rng.normal(0, 0.1, (3, 1, 1)) + rng.normal(0, 0.1, hole.shape), -1, 1), alpha * rng.uniform(0.6, 1)


def copy(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """A part of the picture itself, altered, in another place."""
    return altered(picture, rng), _edged(_patch(hole), rng)


def blur(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """The picture itself, strongly blurred."""
    spread = max(hole.shape) * rng.uniform(0.02, 0.06)
    return ndimage.gaussian_filter(picture, (0, spread, spread)), _edged(_patch(hole), rng)


def smear(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """The picture itself wiped along a straight line, as wet ink is, or a scan that stuck."""
    length, axis = max(3, round(max(hole.shape) * rng.uniform(0.08, 0.3))), int(rng.integers(1, 3))
    return ndimage.uniform_filter1d(picture, length, axis), _edged(_patch(hole), rng)


def recolor(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """The picture itself in other colours: negative, gray, bleached, darkened, tinted."""
    mixed = rng.uniform(0, 1) * picture.mean(0, keepdims=True) + rng.choice([-1, 0.3, 1]) * picture
    return np.clip(mixed * rng.uniform(0.4, 1, (3, 1, 1)) + rng.uniform(-0.7, 0.7, (3, 1, 1)), -1, 1), _edged(_patch(hole), rng)


def mosaic(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """The picture itself in coarse squares."""
    h, w = hole.shape
    cell = max(3, round(max(h, w) * rng.uniform(0.04, 0.12)))
    padded = np.pad(picture, ((0, 0), (0, -h % cell), (0, -w % cell)), "edge")
    means = padded.reshape(3, padded.shape[1] // cell, cell, -1, cell).mean((2, 4))
    return means.repeat(cell, 1).repeat(cell, 2)[:, :h, :w], _patch(hole).astype(np.float32)


def pasted(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """Another picture."""
    return other, _patch(hole).astype(np.float32)


def gradient(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """One colour passing into another."""
    h, w = hole.shape
    angle, (y, x) = rng.uniform(0, 2 * np.pi), np.mgrid[:h, :w] / max(h, w) - 0.5
    share = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)
    return _color(rng) * share + _color(rng) * (1 - share), hole.astype(np.float32)


def ring(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """The brown rings that cups leave, uneven in strength."""
    h, w = hole.shape
    y, x = np.mgrid[:h, :w]
    alpha = np.zeros(hole.shape)
    for _ in range(rng.integers(1, 4)):
        radius, width = max(h, w) * rng.uniform(0.1, 0.35), max(h, w) * rng.uniform(0.012, 0.04)
        away = np.abs(np.hypot(x - rng.uniform(0, w), y - rng.uniform(0, h)) - radius)
        uneven = np.clip(0.75 + 0.25 * _uneven(hole.shape, rng), 0.3, 1)
        alpha = np.maximum(alpha, np.clip(width - away, 0, 1) * uneven)
    return (picture + 1) * np.array([0.6, 0.4, 0.2])[:, None, None] - 1, alpha * rng.uniform(0.6, 1)


def hatching(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, rng: Rng) -> Layer:
    """Parallel pen strokes in two colours, some crossing."""
    h, w = hole.shape
    y, x = np.mgrid[:h, :w]
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(4, 10)
    lines = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / pitch) > 0
    if rng.random() < 0.5:
        lines = lines ^ (np.sin(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / pitch) > 0)
    return np.where(lines, _color(rng), _color(rng)), hole.astype(np.float32)


def altered(picture: np.ndarray, rng: Rng) -> np.ndarray:
    """A stand-in for another picture `(3, H, W)`: the same one turned, shifted around its borders, its channels exchanged."""
    turned = np.rot90(picture, int(rng.integers(4)), (1, 2)) if picture.shape[1] == picture.shape[2] else picture
    turned = turned[:, :: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    shift = [int(rng.integers(side // 4, side - side // 4)) for side in turned.shape[1:]]
    shifted = np.roll(turned, shift, (1, 2))[rng.permutation(3) if rng.random() < 0.5 else slice(None)]
    return np.clip(shifted * rng.uniform(0.6, 1.2) + rng.uniform(-0.3, 0.3), -1, 1).astype(np.float32)


def _color(rng: Rng) -> np.ndarray:
    """(3, 1, 1): black or white half of the time, else any."""
    exact = {0: -1.0, 1: -1.0, 2: 1.0, 3: 1.0, 4: 0.0}.get(int(rng.integers(9)))
    return rng.uniform(-1, 1, (3, 1, 1)) if exact is None else np.full((3, 1, 1), exact)


def _strong(rng: Rng) -> np.ndarray:
    """(3, 1, 1): one channel high, one low, one anywhere."""
    values = np.array([rng.uniform(0.5, 1), rng.uniform(-1, -0.5), rng.uniform(-1, 1)])
    return rng.permutation(values)[:, None, None]


def _tinted(picture: np.ndarray, rng: Rng) -> np.ndarray:
    """The picture seen through a coloured film, mostly a dark one, some of them bleaching it."""
    film = rng.uniform(0.1, 0.9, (3, 1, 1))
    dark = (picture + 1) * film - 1
    return dark if rng.random() < 0.75 else 1 - (1 - picture) * film


def _edged(hole: np.ndarray, rng: Rng) -> np.ndarray:
    """The hole as coverage, (H, W); half of the time with a slightly soft edge."""
    return _soft(hole, rng.uniform(0.4, 1.5)) if rng.random() < 0.5 else hole.astype(np.float32)


def _soft(hole: np.ndarray, spread: float) -> np.ndarray:
    return ndimage.gaussian_filter(hole.astype(np.float32), spread)


def _fine(shape: Callable[[tuple[int, int], Rng], np.ndarray], size: tuple[int, int], rng: Rng) -> np.ndarray:
    """Coverage (H, W) by a mask drawn one to three times as large: reduced, so that edges are smooth and lines fine, or a part
    of it, so that letters are large."""
    (h, w), zoom = size, int(rng.integers(1, 4))
    drawn = shape((w * zoom, h * zoom), rng)
    if rng.random() < 0.3:
        top, left = rng.integers(h * zoom - h + 1), rng.integers(w * zoom - w + 1)
        return drawn[top : top + h, left : left + w].astype(np.float32)
    return drawn.reshape(h, zoom, w, zoom).mean((1, 3))


def _uneven(shape: tuple[int, int], rng: Rng, most: int = 20) -> np.ndarray:
    """A smooth random field (H, W) of mean 0 and standard deviation 1, with 3 to `most` bumps along each side."""
    bumps = rng.standard_normal((int(rng.integers(3, most + 1)),) * 2).astype(np.float32)
    field = np.asarray(Image.fromarray(bumps).resize(shape[::-1], Image.Resampling.BICUBIC))
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-9))


def _patch(hole: np.ndarray) -> np.ndarray:
    """What of the hole is at least five pixels wide, or else its surroundings; or the complement, where that is smaller.

    The kinds that replace content by content cannot be told in a thinner line, and of two pictures in one frame the larger
    is the picture.
    """
    wide = ndimage.binary_opening(hole, iterations=2)
    wide = wide if wide.any() else ndimage.binary_dilation(hole, iterations=3)
    return wide if wide.mean() <= 0.5 else ~wide
