"""Filling from the rim inwards: ring by ring, each known to the next (the autoregressive filling of the ILVR report)."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from inpaintkit.core.errors import UsageError
from inpaintkit.core.progress import Progress
from inpaintkit.data.images import Hole, Picture, check_hole
from inpaintkit.pipeline.fill import changed_outside
from inpaintkit.pipeline.fillers import Fill


def onion(
    picture: Picture, hole: Hole, fill: Fill, ring: int = 8, on_ring: Callable[[Progress], None] | None = None
) -> tuple[Picture, dict[str, Any]]:
    """The picture with its hole `(H, W)` filled in rings of `ring` pixels by any `fill(image, hole)`; and the record.

    What a call makes of the outermost ring is kept and known to the next call. The rings are sets of equal distance to
    the pixels known at first, so there are as many calls as the deepest pixel's distance holds rings; with nothing known
    there is one. `on_ring` is called after every ring and may raise `Cancelled`.
    """
    if ring < 1:
        raise UsageError(f"ring = {ring}: a ring is at least 1 pixel wide")
    notes, began = check_hole(hole, picture.name, picture), time.perf_counter()
    depth = rings(hole, ring)
    total = int(depth.max())
    image = np.ascontiguousarray((picture.tensor()[0].permute(1, 2, 0).numpy() + 1) / 2, np.float32)
    for k in range(1, total + 1):
        filled = np.asarray(fill(image.copy(), depth >= k), np.float32)
        if filled.shape != image.shape:
            raise UsageError(f"fill gave an array of shape {filled.shape} for an image of shape {image.shape}; it must keep the shape")
        image[depth == k] = filled[depth == k]
        if on_ring is not None:
            on_ring(Progress(k, total))
    width, height = picture.size
    values = torch.from_numpy(image * 2 - 1).permute(2, 0, 1)[None]
    result = picture.pasted((0, 0, width, height), values, hole)
    return result, {
        "ring": ring,
        "rings": total,
        "hole_fraction": float(hole.mean()),
        "seconds": round(time.perf_counter() - began, 4),
        "changed_outside": changed_outside(picture, result, hole),
        "notes": list(notes),
    }


def rings(hole: Hole, ring: int) -> np.ndarray:
    """(H, W): 0 outside the hole, 1 in its outermost ring of `ring` pixels, 2 in the next ... 1 all over when nothing is known."""
    if hole.all():
        return np.ones(hole.shape, int)
    return np.ceil(ndimage.distance_transform_edt(hole) / ring).astype(int)
