"""What may be known of a picture besides single pixels of it: a smaller picture of it, or one it is to resemble."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.core.operators import Known, Operator
from inpaintkit.data.images import Picture
from inpaintkit.pipeline.regions import Box


@dataclass(frozen=True)
class Measured:
    """`values = operator.A(picture)`, for a picture of any size; every region of it is measured alike."""

    operator: Operator | None
    """None: the values are a picture of the same size."""
    values: Tensor
    """`(1, C, h, w)`: the measurement of the whole picture."""
    factor: int = 1
    """Pixels of the picture to one of the measurement, in each direction."""
    start: Tensor | None = None
    """`(1, C, H, W)`: a picture of the full size that a walk may start part-way from."""

    def at(self, boxes: Sequence[Box], device: torch.device) -> tuple[Operator, Tensor]:
        """(operator, values `(B, C, h, w)`) of regions of one size; where one reaches beyond the picture, its border goes on."""
        values = torch.cat([_cut(self.values, box, self.factor) for box in boxes]).to(device)
        return self.operator or Known(torch.ones_like(values[:, :1])), values

    def beginning(self, boxes: Sequence[Box]) -> Tensor | None:
        """The start of these regions, `(B, C, h, w)`, cut in the same way."""
        return None if self.start is None else torch.cat([_cut(self.start, box, 1) for box in boxes])


def _cut(values: Tensor, box: Box, factor: int) -> Tensor:
    x0, y0, x1, y1 = (v // factor for v in box)
    rows, columns = torch.arange(y0, y1), torch.arange(x0, x1)
    return values[:, :, rows.clamp(0, values.shape[2] - 1)][:, :, :, columns.clamp(0, values.shape[3] - 1)]


def reference(picture: Picture) -> Measured:
    """The picture as one to resemble, damage and all. Raises `BadInput` when some of it is NaN."""
    values = whole(picture)
    return Measured(None, values, start=values)


def whole(picture: Picture) -> Tensor:
    """The picture `(1, 3, H, W)`. Raises `BadInput` when a value is missing."""
    if count := int(picture.missing.sum()):
        raise BadInput(f"{picture.name}: has NaN in {count} pixels, and all of them are needed here; fill them first")
    return picture.tensor()
