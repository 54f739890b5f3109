"""Measurements that make a picture smaller, or smoother: one matrix along the rows and one along the columns."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from inpaintkit.core.errors import UsageError
from inpaintkit.core.operators import Known, Operator, each, inverse, singular, sized


@dataclass(frozen=True)
class Separable(Operator):
    """`A(x) = R x C^T` with R and C from the same family of matrices; the pseudo-inverse is made of theirs and exact."""

    factor: int
    """Pixels of a cell along each side."""

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise UsageError(f"{type(self).__name__}: a factor of {self.factor}; at least 1 is needed")

    @abstractmethod
    def matrix(self, n: int) -> Tensor:
        """`(m, n)` float64: what is measured along an axis of n pixels."""

    def pixels(self, m: int) -> int:
        """Pixels of an axis that is measured as m values."""
        return m * self.factor

    def A(self, x: Tensor) -> Tensor:
        self.measured(x.shape[1:])
        return _along(x, *(self.matrix(n) for n in x.shape[2:]))

    def At(self, y: Tensor) -> Tensor:
        return _along(y, *(self.matrix(self.pixels(m)).mT for m in y.shape[2:]))

    def pinv(self, y: Tensor, ratio: float = 0.0) -> Tensor:
        (u, s, v), (p, q, w) = (_parts(self, self.pixels(m)) for m in y.shape[2:])
        return _along(_along(y, u.mT, p.mT) * inverse(torch.outer(s, q), ratio).to(y), v, w)

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        if any(n % self.factor for n in shape[1:]):
            cause = f"{type(self).__name__}: a picture of {sized(shape[1:])} pixels is no whole number of cells of {self.factor}"
            raise UsageError(f"{cause}; use a factor that divides both sides")
        return (shape[0], *(n // self.factor for n in shape[1:]))


@dataclass(frozen=True)
class Decimate(Separable):
    """Every `factor`-th pixel from `phase` on. Methods that need known pixels take `Known(At(ones))` and the picture `At(y)`."""

    phase: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.phase < self.factor:
            raise UsageError(f"Decimate: a phase of {self.phase}; from 0 to {self.factor - 1} are possible with a factor of {self.factor}")

    def matrix(self, n: int) -> Tensor:
        return torch.eye(n, dtype=torch.float64)[self.phase :: self.factor]


@dataclass(frozen=True)
class AvgPool(Separable):
    """Means of cells: what a camera with larger pixels sees."""

    def matrix(self, n: int) -> Tensor:
        return _means(n, self.factor)


@dataclass(frozen=True)
class Bicubic(Separable):
    """Antialiased bicubic reduction (Keys 1981, a = -1/2), as Pillow's and torch's."""

    def matrix(self, n: int) -> Tensor:
        return _cubic(n, n // self.factor)


@dataclass(frozen=True)
class LowPass(Separable):
    """Reduced by `factor` and enlarged again: phi_N of ILVR (Choi et al. 2021, section 3.2). Along an axis of one pixel it does nothing."""

    kind: Literal["resize", "pool"] = "resize"
    """resize: antialiased bicubic both ways; pool: every cell its mean, an orthogonal projector."""

    def matrix(self, n: int) -> Tensor:
        if n == 1 or self.factor == 1:
            return torch.eye(n, dtype=torch.float64)
        if self.kind == "pool":
            return self.factor * _means(n, self.factor).mT @ _means(n, self.factor)
        return _cubic(n // self.factor, n) @ _cubic(n, n // self.factor)

    def pixels(self, m: int) -> int:
        return m

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        super().measured((shape[0], *(self.factor if n == 1 else n for n in shape[1:])))
        return tuple(shape)


@dataclass(frozen=True)
class Stack(Operator):
    """Known pixels and the means of all cells: known pixels stay exact, then the unknown ones of each cell are shifted to its mean.

    y is `(B, C, H W + h w)`: picture and means, joined by `join`. A cell without an unknown pixel cannot be shifted: where
    its mean and its pixels contradict each other the pixels count.
    """

    pixels: Known
    pool: AvgPool

    def join(self, picture: Tensor, means: Tensor) -> Tensor:
        """y from a picture `(B, C, H, W)`, read where known, and the means `(B, C, h, w)` of its cells."""
        return torch.cat([self.pixels.A(picture).flatten(2), means.flatten(2)], 2)

    def split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(picture, means) of y."""
        size = self.pixels.mask.shape[2:]
        picture, means = y.split([size.numel(), y.shape[2] - size.numel()], 2)
        return picture.unflatten(2, size), means.unflatten(2, [n // self.pool.factor for n in size])

    def A(self, x: Tensor) -> Tensor:
        return self.join(x, self.pool.A(x))

    def At(self, y: Tensor) -> Tensor:
        picture, means = self.split(y)
        return self.pixels.At(picture) + self.pool.At(means)

    def pinv(self, y: Tensor, ratio: float = 0.0) -> Tensor:
        picture, means = self.split(y)
        if ratio == 0:
            return self.project(torch.zeros_like(picture), y)
        # the x that minimises known |x - picture|^2 + |mean of the cell - means|^2 + ratio |x|^2, cell by cell
        weight = self._mask(picture) + ratio
        x, give = self.pixels.A(picture) / weight, self.pool.A(1 / weight)
        return x + self.pool.At((means - self.pool.A(x)) / (1 + give / self.pool.factor**2)) / weight

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        c, h, w = self.pool.measured(self.pixels.measured(shape))
        return c, shape[1] * shape[2] + h * w

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        picture, means = self.split(y)
        return self.join(picture - x, means - self.pool.A(x))

    def project(self, x: Tensor, y: Tensor, ratio: float = 0.0) -> Tensor:
        if ratio > 0:
            return super().project(x, y, ratio)
        picture, means = self.split(y)
        x = self.pixels.project(x, picture)
        count = (self.pool.A(1 - self._mask(x)) * self.pool.factor**2).round()  # unknown pixels of each cell
        shift = self.pool.At((means - self.pool.A(x)) * self.pool.factor**4 / count.clamp(min=1))
        return torch.where(self.pixels.mask > 0, x, x + shift)

    def _mask(self, x: Tensor) -> Tensor:
        return self.pixels.mask.to(x).expand(x.shape)


def _along(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`rows x columns^T` for every picture and channel of x `(B, C, H, W)`."""
    r, c = rows.to(x), columns.to(x).mT
    return each(lambda picture: r @ picture @ c, x)


@cache
def _parts(operator: Separable, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of its matrix along an axis of n pixels."""
    return singular(operator.matrix(n))


@cache
def _means(n: int, factor: int) -> Tensor:
    """`(n / factor, n)`: means of `factor` pixels."""
    return torch.eye(n // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor


@cache
def _cubic(n: int, m: int) -> Tensor:
    """`(m, n)`: n pixels resampled to m with Keys' cubic kernel (a = -1/2), widened when m < n so that nothing aliases."""
    scale = n / m
    centres = (torch.arange(m, dtype=torch.float64)[:, None] + 0.5) * scale - 0.5
    d = (centres - torch.arange(n, dtype=torch.float64)).abs() / max(scale, 1)
    near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    weights = torch.where(d < 1, near, torch.where(d < 2, far, 0))
    return weights / weights.sum(1, keepdim=True)
