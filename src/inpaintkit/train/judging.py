"""How the discriminator of a GAN is built and learns: the recipe's `[task.judge]`."""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from inpaintkit.core.settings import Settings

Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Judge(Settings):
    """The discriminator, and how it learns."""

    widths: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(min_length=1)] = (64, 128, 256, 256)
    """Channels of its stem and of its blocks; each block but the last halves the picture."""
    lr: Annotated[float, Field(gt=0)] = 1.0
    """Its learning rate, as a factor on the recipe's."""
    r1: Weight = 1.0
    """Weight gamma of the penalty gamma / 2 |slope of the score in x_s|^2 on real pictures (Mescheder et al. 2018, R1)."""
    r1_every: Annotated[int, Field(ge=1)] = 8
    """Every so many-th picture of a batch is penalised: that costs, and weighs, what penalising all of them at every so many-th
    step does (the lazy form of Karras et al. 2020, StyleGAN2), and needs no count of steps."""
    group: Annotated[int, Field(ge=1)] = 4
    """Pictures among which it sees how much they differ; 1: none."""

    def grouped(self, items: int) -> int:
        """The largest groups, of `group` pictures at most, into which so many can be parted."""
        return next(n for n in range(self.group, 0, -1) if items % n == 0)

    def whole(self, items: int) -> int:
        """Pieces of so many items hold the groups and the penalised pictures of the whole when each is a multiple of this."""
        return math.lcm(self.grouped(items), self.r1_every if self.r1 else 1)
