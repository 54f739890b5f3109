"""What was measured: `y = A(x)` for a linear A, with its adjoint and pseudo-inverse."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Operator(ABC):
    """A linear measurement of pictures `(B, C, H, W)`. `A pinv A = A`, and `<A x, y> = <x, At y>`."""

    @abstractmethod
    def A(self, x: Tensor) -> Tensor:
        """The measurement of x."""

    @abstractmethod
    def At(self, y: Tensor) -> Tensor:
        """The adjoint."""

    @abstractmethod
    def pinv(self, y: Tensor) -> Tensor:
        """The pseudo-inverse: the smallest picture that measures as y."""

    def known(self) -> Tensor | None:
        """`(B or 1, 1 or C, H, W)` with 1 = value known, or None when single values are not what is measured."""
        return None

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The picture nearest to x that measures as y (DDNM, Wang et al. 2023, eq. 13)."""
        return x + self.pinv(y - self.A(x))


@dataclass(frozen=True)
class Known(Operator):
    """Single values are known. `mask` is `(B or 1, 1 or C, H, W)`, 1 = known, 0 = not."""

    mask: Tensor

    def A(self, x: Tensor) -> Tensor:
        return self.mask * x

    def At(self, y: Tensor) -> Tensor:
        return self.mask * y

    def pinv(self, y: Tensor) -> Tensor:
        return self.mask * y

    def known(self) -> Tensor:
        return self.mask

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(self.mask > 0, y.to(x.dtype), x)  # exact to the bit, which x + mask (y - x) is not
