"""Classifier-free guidance: how strongly a network follows what it is told."""

from dataclasses import dataclass

from torch import Tensor

from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.models.denoisers import NetworkDenoiser


@dataclass(frozen=True)
class Guided:
    """What a network says when it is told and when it is not, combined (Ho and Salimans 2022, eq. 6, on x0 and with w counted
    from the unconditional prediction: `x0 = x0_u + w (x0_c - x0_u)`); the same on eps or v, for both are linear in x0.

    Two evaluations a step. A network whose predictions are bounded is bounded afterwards, by the sampling loop: w > 1 leaves
    the bounds.
    """

    inner: NetworkDenoiser
    """Told."""
    w: float
    """0 = unconditional, 1 = conditional, above 1 = stronger."""

    @property
    def schedule(self) -> NoiseSchedule:
        return self.inner.schedule

    @property
    def clamp(self) -> bool:
        return self.inner.clamp

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """(x0, spread of the told network or None) for x `(B, C, H, W)` at level t in 1..T."""
        free, _ = self.inner.untold()(x, t)
        told, spread = self.inner(x, t)
        return free + self.w * (told - free), spread


def guided(told: NetworkDenoiser, w: float) -> NetworkDenoiser | Guided:
    """A told network at guidance scale w. At 1 and at 0 it is the told and the untold network itself, in one evaluation a step."""
    return told if w == 1 else told.untold() if w == 0 else Guided(told, w)
