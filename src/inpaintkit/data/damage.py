"""Synthetic damage: what a detector of damage is trained and measured on.

Pictures are `(3, H, W)` float32 in [-1, 1]. A detector that saw holes filled with one constant finds exactly that constant
and nothing else, so the kinds of damage differ in colour, texture, edge and transparency, and `worn` compresses the whole
picture afterwards.

`SEEN` are for training; `UNSEEN` are left out of it, to measure what is found of damage that was never shown.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from inpaintkit.data import damage_kinds as kinds
from inpaintkit.data.damage_kinds import Layer, Rng

Kind = Callable[[np.ndarray, np.ndarray, np.ndarray, Rng], Layer]
KINDS: dict[str, Kind] = {
    "solid": kinds.solid,
    "noise": kinds.noise,
    "graffiti": kinds.graffiti,
    "lettering": kinds.lettering,
    "scratch": kinds.scratch,
    "stain": kinds.stain,
    "fold": kinds.fold,
    "copy": kinds.copy,
    "blur": kinds.blur,
    "smear": kinds.smear,
    "recolor": kinds.recolor,
    "mosaic": kinds.mosaic,
    "pasted": kinds.pasted,
    "gradient": kinds.gradient,
    "ring": kinds.ring,
    "hatching": kinds.hatching,
}
UNSEEN = ("mosaic", "pasted", "gradient", "ring", "hatching")
"""Held out of training, for measuring only."""
SEEN = tuple(kind for kind in KINDS if kind not in UNSEEN)

GAP = 3  # pixels; what lies between two damaged pixels nearer than this, as between the specks of a crease, is damaged too
RIM = 7  # side in pixels of the square whose largest coverage says where a soft edge ends
VISIBLE = 12 / 127.5  # twelve steps of 8 bits


def damage(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, kind: str, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """(damaged picture `(3, H, W)` float32, what is damaged `(H, W)` bool) for one of `KINDS`.

    hole `(H, W)` bool says where, for the kinds without a shape of their own; other `(3, H, W)` is what is pasted by those
    that paste. What is damaged: `visible`.
    """
    colors, alpha = KINDS[kind](picture, hole, other, rng)
    changed = np.clip(picture + alpha * (colors - picture), -1, 1).astype(np.float32)
    return changed, visible(picture, changed, alpha)


def visible(picture: np.ndarray, changed: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Where somebody who sees only the changed picture, compressed and grainy, could call it damaged: `(H, W)` bool.

    picture and changed are `(3, H, W)`, alpha `(H, W)` in [0, 1] is how much of each pixel is covered. An edge ends where the
    coverage has fallen to half of the largest near it: that is where a blurred or reduced edge stands, however faint the
    damage (a fixed small coverage would add a rim that nobody sees, and whoever fills takes some pixels more anyhow). And some
    value within two pixels must have changed by more than `VISIBLE`, which
    `worn`, where it does something, exceeds in one pixel of ten: white paint on a white wall is no damage.
    """
    closed = ndimage.grey_closing(alpha, GAP)
    difference = np.abs(changed - picture).max(0)
    inside = (closed > 0) & (closed >= 0.5 * ndimage.maximum_filter(closed, RIM))
    return inside & (ndimage.maximum_filter(difference, 5) > VISIBLE)


def worn(picture: np.ndarray, rng: Rng) -> np.ndarray:
    """The whole picture `(3, H, W)` with grain (a third of the time) and JPEG compression (six of ten times), in [-1, 1]."""
    if rng.random() < 1 / 3:
        picture = picture + rng.normal(0, rng.uniform(0.005, 0.05), picture.shape)
    picture = np.clip(picture, -1, 1).astype(np.float32)
    return compressed(picture, int(rng.integers(35, 96))) if rng.random() < 0.6 else picture


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture `(3, H, W)` through JPEG."""
    pixels = np.rint((picture.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1
