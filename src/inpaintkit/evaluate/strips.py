"""The way of a picture from noise, as a strip of a few moments."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inpaintkit.pipeline.job import Step

MOMENTS = 8


class Strip:
    """Collects moments, evenly over all moves; pass it as `on_step`. Jumps back up in noise show where they happen to be met."""

    def __init__(self, size: tuple[int, int], moments: int = MOMENTS):
        self.w, self.h = size
        self.moments = moments
        self.levels: list[int] = []
        """Reached at the moments."""
        self.columns: list[np.ndarray] = []

    def __call__(self, step: Step) -> None:
        if step.done not in {1 + round(i * (step.total - 1) / max(self.moments - 1, 1)) for i in range(self.moments)}:
            return
        self.levels.append(step.t)
        clean = step.x if step.x0 is None else step.x0
        self.columns.append(np.concatenate([self._placed(values, step) for values in (step.x, clean)]))

    def picture(self) -> np.ndarray:
        """(2 H, W x moments, 3) uint8: the states above, below them the estimates of the clean picture; a column for each moment."""
        return np.ascontiguousarray(np.concatenate(self.columns, axis=1))

    def _placed(self, values: Tensor, step: Step) -> np.ndarray:
        """(H, W, 3): values `(B, 3, h, w)` at their boxes, enlarged where a coarser level is filled; black elsewhere."""
        canvas = np.zeros((self.h, self.w, 3), np.uint8)
        for part, (x0, y0, x1, y1) in zip(values.detach().float().cpu(), step.boxes, strict=False):
            large = F.interpolate(part[None], (y1 - y0, x1 - x0), mode="nearest-exact")[0]
            pixels = ((large.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
            left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, self.w), min(y1, self.h)
            canvas[top:bottom, left:right] = pixels[top - y0 : bottom - y0, left - x0 : right - x0]
        return canvas
