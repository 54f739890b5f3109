"""The discriminator of a GAN: how it is built, what it learns from and what it says; the recipe's `[task.judge]`."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.settings import Settings
from inpaintkit.models.gan import judged
from inpaintkit.train import losses
from inpaintkit.train.task import Item

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

    def loss(self, network: nn.Module, real: Tensor, fake: Tensor, batch: Item, known: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's loss (Xiao et al. 2022, eq. 5; the non-saturating form of Goodfellow et al. 2014), with R1, and its parts.

        real and fake `(B, C, H, W)` are x_s of pictures and of what the generator made, known `(B, 1, H, W)` as the generator is told it.
        """
        of_real, of_fake = (self._found(network, x_s, batch, known)[0] for x_s in (real, fake))
        weight = judged(known, real.shape[-1] // of_real.shape[-1])
        parts = {"d_real": losses.mean(of_real, weight), "d_fake": losses.mean(of_fake, weight)}
        loss = losses.mean(F.softplus(-of_real) + F.softplus(of_fake), weight)
        if self.r1:
            parts["r1"] = self.slope(network, real, batch, known, weight)
            loss = loss + self.r1 / 2 * parts["r1"]
        return loss, parts

    def slope(self, network: nn.Module, real: Tensor, batch: Item, known: Tensor, weight: Tensor) -> Tensor:
        """Squared slope of the mean score in x_s, a mean over some pictures of the batch, each shown to the discriminator alone."""
        some = slice(None, None, self.r1_every)
        with torch.autocast(real.device.type, enabled=False), torch.enable_grad():  # bfloat16 is too coarse for slopes of slopes
            x_s = real[some].detach().requires_grad_()
            scores, _ = network(x_s, batch["x_t"][some], batch["t"][some], known[some], batch["x0"][some])
            (slope,) = torch.autograd.grad((scores * weight[some]).sum(), x_s, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean()

    def verdict(self, network: nn.Module, made: Tensor, real: Tensor, batch: Item, known: Tensor, features: bool) -> dict[str, Tensor]:
        """The generator's adversarial loss, and, with `features`, how far what the discriminator finds in `made` is from what it finds in
        `real` (Wang et al. 2018, pix2pixHD, eq. 4)."""
        scores, found = self._found(network, made, batch, known)
        parts = {"adversarial": losses.mean(F.softplus(-scores), judged(known, made.shape[-1] // scores.shape[-1]))}
        if features:
            with torch.no_grad():
                wanted = self._found(network, real, batch, known)[1]
            gaps = [(one.float() - other.float()).abs().mean() for one, other in zip(found, wanted, strict=True)]
            parts["features"] = torch.stack(gaps).mean()
        return parts

    def _found(self, network: nn.Module, x_s: Tensor, batch: Item, known: Tensor) -> tuple[Tensor, list[Tensor]]:
        scores, found = network(x_s, batch["x_t"], batch["t"], known, batch["x0"], self.grouped(len(x_s)))
        return scores.float(), found
