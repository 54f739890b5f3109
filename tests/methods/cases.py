"""Small problems the method tests share."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inpaintkit.core.sampler import Method
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.core.walk import Walk
from inpaintkit.evaluate.oracle import HOLES, Exact, clipped_cosine, waves
from inpaintkit.methods import ILVR, METHODS

PRIOR = waves()
SCHEDULE = clipped_cosine()
DENOISER = Exact(PRIOR, SCHEDULE)
KNOWN = HOLES["box"]
Y = PRIOR.sample(4, seed=0)
SEEDS = (11, 22, 33, 44)


def short(method: Method) -> Method:
    """The method as it stands in the table, on a walk of 20 levels (its jumps kept, but fewer)."""
    walk = method.walk
    method = replace(method, walk=replace(walk, steps=20, jump_length=min(walk.jump_length, 4), jump_n_sample=min(walk.jump_n_sample, 3)))
    return replace(method, range_t=4) if isinstance(method, ILVR) else method


SHORT = {name: short(method) for name, method in METHODS.items()}


def trailing(steps: int, **jumps: int) -> Walk:
    """Equal steps down from the last level."""
    return Walk(steps, "trailing", **jumps)


@dataclass(frozen=True)
class WithSpread:
    """A network that also learned its variance: wherever x is, so many steps between the two bounds."""

    inner: Exact
    spread: Tensor
    schedule: NoiseSchedule = SCHEDULE
    clamp: bool = False

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return self.inner(x, t)[0], self.spread.expand(x.shape)


SPREAD = WithSpread(DENOISER, torch.linspace(-1, 1, 32, dtype=torch.float64))
CLAMPED = Exact(PRIOR, SCHEDULE, clamp=True)
