"""What methods that follow the gradient of the network share."""

from abc import ABC
from dataclasses import dataclass

import torch
from torch import Tensor

from inpaintkit.core.errors import UsageError
from inpaintkit.core.sampler import Method


@dataclass(frozen=True)
class GradientMethod(Method, ABC):
    """A method that asks the network for the slope of x0 in x_t: twice the work of a prediction, and its activations in memory."""

    frugal: bool = False
    """Keep the activations of one call of the network at a time, and compute them again for the slope: less memory with many
    pictures or windows, one more evaluation."""

    @property
    def calls(self) -> int:
        return 1 + self.frugal


def squares(x: Tensor) -> Tensor:
    """`(B,)`: sum of squares of every picture, added up alone: a sum over a batch may round differently."""
    return torch.stack([part.square().sum() for part in x.detach()])


def pulled_back(value: Tensor, x: Tensor, weight: Tensor, method: Method) -> Tensor:
    """`(d value / d x)^T weight`, where the network made value of x. Raises `UsageError` when it cannot be differentiated."""
    found = torch.autograd.grad(value, x, weight, allow_unused=True)[0] if value.requires_grad else None
    if found is None:
        raise UsageError(f"{type(method).__name__.lower()} needs the gradient of the network, and this one gives none; use ddnm or repaint")
    return found


def per_picture(values: Tensor) -> Tensor:
    """`(B,)` as `(B, 1, 1, 1)`."""
    return values.reshape(-1, 1, 1, 1)
