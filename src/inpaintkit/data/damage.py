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

COVERED = 0.1  # a pixel less covered than this, as at the rim of a soft edge, is not called damaged
VISIBLE = 5 / 127.5  # nor is one around which no value changed by more than this, five steps of 8 bits


def damage(picture: np.ndarray, hole: np.ndarray, other: np.ndarray, kind: str, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """(damaged picture `(3, H, W)` float32, what is damaged `(H, W)` bool) for one of `KINDS`.

    hole `(H, W)` bool says where, for the kinds without a shape of their own; other `(3, H, W)` is what is pasted by those
    that paste. Damaged is what is covered and differs visibly within two pixels: white paint on a white wall is none.
    """
    colors, alpha = KINDS[kind](picture, hole, other, rng)
    changed = np.clip(picture + alpha * (colors - picture), -1, 1).astype(np.float32)
    difference = np.abs(changed - picture).max(0)
    return changed, (alpha > COVERED) & (ndimage.maximum_filter(difference, 5) > VISIBLE)


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
