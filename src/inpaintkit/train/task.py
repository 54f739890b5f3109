"""What a training task is: networks, what one item of a batch holds, and a loss for each network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from inpaintkit.core.settings import Settings

Item = dict[str, Tensor]
"""One item of a batch: named tensors without the batch's dimension."""


@dataclass(frozen=True)
class Task(Settings, ABC):
    """A frozen dataclass whose fields are the recipe's `[task]`. Everything random in it comes from the generator it is given."""

    roles: ClassVar[tuple[str, ...]] = ("network",)
    """The networks, in the order in which one step updates them."""
    averaged: ClassVar[tuple[str, ...]] = ("network",)
    """Those of which a moving average is kept; the average is what is exported."""

    def fitted(self, about: Mapping[str, Any]) -> Self:
        """The task with what only the opened data know (`Source.about`), as the channels of arrays. Raises `UsageError`."""
        return self

    @abstractmethod
    def build(self, seed: int) -> dict[str, nn.Module]:
        """The networks by role, float32 on the CPU, the same for the same seed. Raises `BadInput` or `UsageError`."""

    @abstractmethod
    def item(self, example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Item:
        """One item from one example of the data: its level, noise and so on.

        example holds what the data give: `x0` `(C, H, W)` in [-1, 1] (arrays: unit variance) and `known` `(1, H, W)`, float32.
        """

    @abstractmethod
    def loss(self, role: str, networks: Mapping[str, nn.Module], batch: Item) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss of the network `role`, a mean over the batch; parts of it worth logging). Called for each of `roles` in turn."""

    @abstractmethod
    def export(self, folder: Path, networks: Mapping[str, nn.Module], card: str) -> None:
        """Write the averaged networks as a model folder."""

    def validate(self, networks: Mapping[str, nn.Module], batch: Item) -> dict[str, Tensor]:
        """Figures of merit of one fixed batch of held-out items, lower is better; the first one decides which state is best."""
        return {"loss": self.loss(self.roles[-1], networks, batch)[0]}

    def samples(self, networks: Mapping[str, nn.Module], batch: Item) -> Tensor | None:
        """Pictures `(N, 3, H, W)` in [-1, 1] for the log, made from a fixed held-out batch; None: nothing to show."""
        return None

    def adam(self, role: str) -> dict[str, Any]:
        """Arguments of AdamW for the network `role` that differ from the recipe's; `lr` is a factor on the recipe's rate."""
        return {}
