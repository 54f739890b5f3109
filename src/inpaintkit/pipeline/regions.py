"""Where the network looks: regions around the hole, the scales each is filled at, and the windows it is seen through.

Cost follows the hole, not the photo: far pixels never enter. A region is filled at the picture's own resolution when
every hole pixel lies near known ones, else coarse to fine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]
CELL = 32  # holes nearer than about two cells share a region


@dataclass(frozen=True)
class Region:
    """A part of the picture to be filled in one go."""

    box: Box
    """x0, y0, x1, y1 in pixels of the picture; may reach beyond it (what lies there is unknown and thrown away)."""
    scales: tuple[int, ...]
    """Reduction factors, coarsest first; the last is 1."""
    hole: Box
    """The smallest box around the holes that are filled here; those of two regions never overlap, `box` may."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width at scale 1."""
        return self.box[3] - self.box[1], self.box[2] - self.box[0]


def plan(hole: np.ndarray, multiple: int, smallest: int, largest: int, reach: float) -> list[Region]:
    """The regions of a hole `(H, W)` bool with at least one True.

    `multiple`, `smallest`, `largest`: sides of the network's windows, pixels. `reach`: a hole pixel further than this
    from every known pixel is first filled at a reduced scale, where it is nearer.
    """
    regions = []
    for box in _groups(hole):
        x0, y0, x1, y1 = box
        inside = hole[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1]
        extent = max(x1 - x0, y1 - y0)
        # a window of four times the hole is context enough; more would make the cost follow the photo
        scales = _scales(_depth(inside), reach, min(max(hole.shape), 4 * extent) / smallest)
        coarsest = scales[0]
        context = max(coarsest * min(max(extent // (2 * coarsest), 16), 64), 32)
        columns = _stretch(x0, x1, hole.shape[1], context, multiple, coarsest, smallest, largest)
        rows = _stretch(y0, y1, hole.shape[0], context, multiple, coarsest, smallest, largest)
        regions.append(Region((columns[0], rows[0], columns[1], rows[1]), scales, box))
    return regions


def whole(hole: np.ndarray, multiple: int, reach: float, smallest: int = 1) -> list[Region]:
    """The whole picture as one region."""
    scales = _scales(_depth(hole), reach, max(hole.shape) / smallest)
    unit = multiple * scales[0]
    h, w = (math.ceil(n / unit) * unit for n in hole.shape)
    return [Region((0, 0, w, h), scales, _bounds(hole))]


def windows(known: Tensor, largest: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """(top-left corners, size) of overlapping windows that cover every unknown pixel of known `(B, 1, H, W)`.

    One window when the region is small enough; otherwise neighbours overlap by at least a quarter, and windows without
    a hole are left out.
    """
    h, w = known.shape[2:]
    size = (min(h, largest), min(w, largest))
    corners = [(i, j) for i in _starts(h, size[0]) for j in _starts(w, size[1])]
    holes = (known < 1).any(0).any(0)
    needed = [(i, j) for i, j in corners if bool(holes[i : i + size[0], j : j + size[1]].any())]
    return needed or corners[:1], size  # a reduced region may have lost its last hole


def reduced(picture: Tensor, known: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """(picture, known) at 1/factor: means over the known pixels of each cell; a cell at least half known is known."""
    if factor == 1:
        return picture, known
    share = F.avg_pool2d(known, factor)
    return F.avg_pool2d(picture * known, factor) / share.clamp(min=1e-6), (share >= 0.5).to(known.dtype)


def enlarged(picture: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic enlargement to `size` (H, W)."""
    return F.interpolate(picture, tuple(size), mode="bicubic", align_corners=False).clamp(-1, 1)


def cut(values: np.ndarray, box: Box, outside: float) -> np.ndarray:
    """`values[y0:y1, x0:x1]`, with `outside` where the box reaches beyond the array."""
    x0, y0, x1, y1 = box
    h, w = values.shape[:2]
    part = values[max(y0, 0) : y1, max(x0, 0) : x1]
    beyond = [(max(-y0, 0), max(y1 - h, 0)), (max(-x0, 0), max(x1 - w, 0))] + [(0, 0)] * (values.ndim - 2)
    return np.pad(part, beyond, constant_values=outside) if any(map(any, beyond)) else part


def clipped(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box inside a picture of `size` (W, H)."""
    return max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1])


def _groups(hole: np.ndarray) -> list[Box]:
    """Bounding boxes of groups of holes that lie close together. Works on a coarse grid, so any number of holes is cheap."""
    from scipy import ndimage  # here, because the command line's --help comes this way and must be quick

    h, w = hole.shape
    rows, columns = np.arange(0, h, CELL), np.arange(0, w, CELL)
    grid = np.logical_or.reduceat(np.logical_or.reduceat(hole, rows, 0), columns, 1)
    labels, count = ndimage.label(ndimage.binary_dilation(grid, np.ones((3, 3))), np.ones((3, 3)))
    boxes = []
    for index, (ys, xs) in enumerate(ndimage.find_objects(labels, count), 1):
        top, left = ys.start * CELL, xs.start * CELL
        mine = np.kron(labels[ys, xs] == index, np.ones((CELL, CELL), bool))
        part = hole[top : ys.stop * CELL, left : xs.stop * CELL]
        x0, y0, x1, y1 = _bounds(part & mine[: part.shape[0], : part.shape[1]])
        boxes.append((left + x0, top + y0, left + x1, top + y1))
    return _apart(boxes)


def _apart(boxes: Sequence[Box]) -> list[Box]:
    """The boxes, with those that overlap replaced by the box around them, until none do."""
    apart: list[Box] = []
    for box in boxes:
        while touched := [other for other in apart if _overlap(box, other)]:
            apart = [other for other in apart if other not in touched]
            x0, y0, x1, y1 = zip(box, *touched, strict=True)
            box = min(x0), min(y0), max(x1), max(y1)
        apart.append(box)
    return apart


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _bounds(hole: np.ndarray) -> Box:
    """The smallest box around the True pixels, of which there is at least one."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1] + 1), int(rows[-1] + 1)


def _depth(hole: np.ndarray) -> float:
    """Largest distance of a hole pixel to a known one, pixels; the picture's border is not known. All hole: the longer side."""
    from scipy import ndimage

    return float(max(hole.shape)) if hole.all() else float(ndimage.distance_transform_edt(hole).max())


def _scales(depth: float, reach: float, most: float) -> tuple[int, ...]:
    """Halvings until no hole pixel is further than `reach` from a known one, but by no more than a factor of `most`."""
    wanted, possible = math.ceil(math.log2(max(depth, 1) / reach)), math.floor(math.log2(max(most, 1)))
    doublings = max(0, min(wanted, possible))
    return tuple(2**k for k in range(doublings, -1, -1))


def _stretch(low: int, high: int, length: int, context: int, multiple: int, coarsest: int, smallest: int, largest: int) -> tuple[int, int]:
    """An interval around [low, high): context on both sides, a whole number of `multiple` at the coarsest scale, shifted into
    [0, length) if it fits.

    The context shrinks to no less than half when that lets the interval fit one window, and grows until the coarsest scale
    shows the network as many pixels as it was trained on, where the picture has them.
    """
    side = high - low + 2 * context
    if side > largest >= high - low + context:
        side = largest
    side = max(min(max(side, smallest * coarsest), length), smallest)
    side = math.ceil(side / (multiple * coarsest)) * multiple * coarsest
    begin = (low + high - side) // 2
    begin = max(0, min(begin, length - side)) if side <= length else 0
    return begin, begin + side


def _starts(length: int, size: int) -> list[int]:
    """Evenly spaced starts of windows of `size` over `length`, neighbours overlapping by at least a quarter."""
    if length <= size:
        return [0]
    count = math.ceil((length - size) / (size * 3 // 4)) + 1
    return [round(i * (length - size) / (count - 1)) for i in range(count)]
