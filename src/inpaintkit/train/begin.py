"""Where training items begin when a fill is judged as a whole (x0): at any level, at the highest one, or part-way from a coarse fill."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.errors import UsageError
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.core.settings import Settings
from inpaintkit.pipeline import regions
from inpaintkit.train.task import Item

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Begin(Settings):
    """The recipe's `[task.begin]`. What is neither at the top nor coarse begins at any level, uniform."""

    top: Share = 0.0
    """Share of items at the highest level, where filling begins."""
    coarse: Share = 0.0
    """Share of items that begin part-way, from what one evaluation makes of the picture at half its size, enlarged, much as the finer
    levels of a fill do (`pipeline/job.py`); from the true picture a network would never meet its own faults. Made for each network's step.
    """
    coarse_levels: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.1, 0.3)
    """Levels of those, as shares of T, uniform between these two."""

    def check(self) -> None:
        """Raise `UsageError` for shares above 1 together and for levels in the wrong order."""
        if self.top + self.coarse > 1:
            raise UsageError(f"task.begin.coarse = {self.coarse:g}: with task.begin.top = {self.top:g} more than 1; both are shares of all")
        if self.coarse_levels[0] > self.coarse_levels[1]:
            raise UsageError(f"task.begin.coarse_levels = {self.coarse_levels}: the lower one comes first")

    def draw(self, rng: np.random.Generator, T: int) -> tuple[int, bool]:
        """(level of an item, whether it begins from a coarse fill)."""
        kind = rng.random() if self.top or self.coarse else 1.0
        if kind < self.coarse:
            low, high = (max(1, round(share * T)) for share in self.coarse_levels)
            return int(rng.integers(low, high + 1)), True
        return (T if kind < self.coarse + self.top else int(rng.integers(1, T + 1))), False

    @torch.no_grad()
    def begun(self, generator: nn.Module, schedule: NoiseSchedule, batch: Item, known: Tensor) -> Item:
        """The batch with those items begun anew that are `batch["coarse"]`: the hole of x_t holds the generator's own x0 at half the size.

        known `(B, 1, H, W)` as the generator is told it; the noise at half the size is made of `batch["noise"][:, 1]`.
        """
        which = batch["coarse"]
        if not which.any():
            return batch
        x0, known, t, x_t = batch["x0"][which], known[which], batch["t"][which], batch["x_t"][which]
        small, where = regions.reduced(x0, known, 2)
        noise = 2 * F.avg_pool2d(batch["noise"][which, 1], 2)  # of unit variance again
        top = torch.full_like(t, schedule.T)
        made = generator(schedule.noised(small, top, noise), top - 1, where, small).float().clamp(-1, 1)
        torch.clear_autocast_cache()  # older torch keeps weights cast without a gradient, and would use them where one is wanted
        coarse = regions.enlarged(torch.where(where > 0, small, made), x0.shape[2:])
        begun = batch["x_t"].clone()
        begun[which] = x_t + schedule.a(t) * (1 - known) * (coarse - x0)
        return batch | {"x_t": begun}
