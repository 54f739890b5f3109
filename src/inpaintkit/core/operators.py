"""What was measured: `y = A(x)` for a linear A, with its adjoint and pseudo-inverse. Those that resize are in `core/resize.py`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from inpaintkit.core.errors import BadInput

TINY = 1e-10  # singular values below this share of the largest one are rounding, not information


class Operator(ABC):
    """A linear measurement of pictures `(B, C, H, W)`. `A pinv A = A`, and `<A x, y> = <x, At y>`."""

    @abstractmethod
    def A(self, x: Tensor) -> Tensor:
        """The measurement of x."""

    @abstractmethod
    def At(self, y: Tensor) -> Tensor:
        """The adjoint."""

    @abstractmethod
    def pinv(self, y: Tensor, ratio: float = 0.0) -> Tensor:
        """The pseudo-inverse: the smallest picture that measures as y.

        With a ratio > 0 it is damped (Tikhonov): `At (A At + ratio)^-1 y`, the x that minimises `|A x - y|^2 + ratio |x|^2`.
        """

    @abstractmethod
    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the measurement of one picture `(C, H, W)`. Raises `BadInput` for a shape that cannot be measured."""

    def known(self) -> Tensor | None:
        """`(B or 1, 1 or C, H, W)` with 1 = value known, or None when something else than single values is measured."""
        return None

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """What x does not explain: `y - A x`; what y may hold where nothing is measured is not read."""
        return y - self.A(x)

    def project(self, x: Tensor, y: Tensor, ratio: float = 0.0) -> Tensor:
        """The picture nearest to x that measures as y (DDNM, Wang et al. 2023, eq. 13).

        With a ratio > 0 the x' that minimises `|A x' - y|^2 + ratio |x' - x|^2` (DiffPIR, Zhu et al. 2023, algorithm 1).
        """
        return x + self.pinv(self.residual(x, y), ratio)

    def check(self, y: Tensor, shape: Sequence[int]) -> None:
        """Raise `BadInput` unless y is a measurement of pictures of `shape` (B, C, H, W)."""
        wanted = self.measured(shape[1:])
        if tuple(y.shape[1:]) != wanted or y.shape[0] not in (1, shape[0]):
            cause = f"{type(self).__name__} of {sized(shape)} values is {sized((shape[0], *wanted))}, but y is {sized(y.shape)}"
            raise BadInput(f"{cause}; give what was measured of this picture")


@dataclass(frozen=True)
class Known(Operator):
    """Single values are known. `mask` is `(B or 1, 1 or C, H, W)`, 1 = known, 0 = not."""

    mask: Tensor

    def A(self, x: Tensor) -> Tensor:
        return torch.where(self.mask > 0, x, 0)

    def At(self, y: Tensor) -> Tensor:
        return self.A(y)

    def pinv(self, y: Tensor, ratio: float = 0.0) -> Tensor:
        return self.A(y) / (1 + ratio)

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        c, *size = self.mask.shape[1:]
        if size != list(shape[1:]) or c not in (1, shape[0]):
            cause = f"Known: a mask of {sized(self.mask.shape[1:])} values, but the picture has {sized(shape)}"
            raise BadInput(f"{cause}; give one of the picture's size")
        return tuple(shape)

    def known(self) -> Tensor:
        return self.mask

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        return self.A(y - x)

    def project(self, x: Tensor, y: Tensor, ratio: float = 0.0) -> Tensor:
        """Exact to the bit at ratio 0, which x + mask (y - x) is not."""
        y = y.to(x.dtype)
        return torch.where(self.mask > 0, y if ratio == 0 else (y + ratio * x) / (1 + ratio), x)


@dataclass(frozen=True)
class Linear(Operator):
    """Any matrix `(M, C H W)` over the flattened picture of `shape` (C, H, W); y is `(B, M)`."""

    matrix: Tensor
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.shape[1] != prod(self.shape):
            cause = f"Linear: a matrix of {sized(self.matrix.shape)} does not fit pictures of {sized(self.shape)}"
            raise BadInput(f"{cause}; it needs {prod(self.shape)} columns")

    @cached_property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        return singular(self.matrix)

    def A(self, x: Tensor) -> Tensor:
        self.measured(x.shape[1:])
        matrix = self.matrix.to(x)
        return each(lambda picture: matrix @ picture.flatten(), x)

    def At(self, y: Tensor) -> Tensor:
        matrix = self.matrix.to(y)
        return each(lambda values: (values @ matrix).reshape(self.shape), y)

    def pinv(self, y: Tensor, ratio: float = 0.0) -> Tensor:
        u, s, v = (part.to(y) for part in self.svd)
        weight = inverse(s, ratio)
        return each(lambda values: (v @ (weight * (u.mT @ values))).reshape(self.shape), y)

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        if tuple(shape) != tuple(self.shape):
            raise BadInput(f"Linear: made for pictures of {sized(self.shape)}, not {sized(shape)}; give a matrix for those")
        return (self.matrix.shape[0],)


def singular(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U, s, V) in float64 with `matrix = U diag(s) V^T`, rounding errors among the s set to 0."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u, torch.where(s > TINY * s.max(), s, 0), vt.mT


def inverse(s: Tensor, ratio: float) -> Tensor:
    """`s / (s^2 + ratio)`, and 0 where s is 0."""
    return torch.where(s > 0, s / (s * s + ratio).clamp(min=torch.finfo(s.dtype).tiny), 0)


def each(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f of every picture of x alone: matrix products of a whole batch would round differently from those of a part of it."""
    return torch.stack([f(part) for part in x])


def sized(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
