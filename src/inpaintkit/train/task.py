"""What a training task is: networks, what one item of a batch holds, and a loss for each network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import Settings

Item = dict[str, Tensor]
"""One item of a batch: named tensors without the batch's dimension."""


@dataclass(frozen=True)
class Task(Settings, ABC):
    """A frozen dataclass whose fields are the recipe's `[task]`. Everything random in it comes from the generator it is given."""

    places: ClassVar[tuple[str, ...]] = ()
    """Fields that name a file: where it lies may change between two sittings and is nobody's business, its name counts."""
    averaged: ClassVar[tuple[str, ...]] = ("network",)
    """Those of which a moving average is kept; the average is what is exported."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The networks that learn, in the order in which one step updates them; others that `build` gives are only read."""
        return ("network",)

    def fitted(self, about: Mapping[str, Any]) -> Self:
        """The task with what only the opened data know (`Source.about`), as the channels of arrays. Raises `UsageError`:
        here for arrays, which most tasks do not learn from."""
        if "channels" in about:
            raise UsageError("data.kind = 'arrays': only a task of kind 'control' learns from arrays; give data.kind = 'pictures'")
        return self

    def multiple(self, networks: Mapping[str, nn.Module]) -> int:
        """Height and width of what the networks take must be multiples of this."""
        return 1

    def whole(self, items: int) -> int:
        """Pieces of so many items give together the step of all of them when each holds a multiple of this many."""
        return 1

    def check(self, networks: Mapping[str, nn.Module], shapes: Sequence[tuple[int, int, int]], accumulate: int, processes: int = 1) -> None:
        """Raise `UsageError` when a kind of batch, (items on a process, height, width), does not fit the networks, the pieces of a
        batch (`accumulate` on a process) or the processes."""
        step = self.multiple(networks)
        for i, (items, height, width) in enumerate(shapes):
            if height % step or width % step:
                raise UsageError(f"data.batches.{i}: items of {height} x {width}; task needs multiples of {step}: give such a size")
            if accumulate > 1 and items // accumulate % self.whole(items):
                wanted = f"accumulate = {accumulate} gives the same step only with a multiple of {self.whole(items) * accumulate} items"
                raise UsageError(f"data.batches.{i}: {items} items on a process; {wanted}; change items or accumulate")

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
        """Arguments of AdamW for the network `role` that differ from the recipe's."""
        return {}

    def rate(self, role: str, name: str) -> float:
        """Factor on the recipe's learning rate for the parameter `name` of the network `role`."""
        return 1.0
