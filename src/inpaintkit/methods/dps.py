"""Posterior sampling by the gradient of the measurement's error through the network."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from inpaintkit.core import papers
from inpaintkit.core.sampler import Context, State
from inpaintkit.core.walk import Walk
from inpaintkit.methods.gradient import GradientMethod, per_picture, pulled_back, squares


@dataclass(frozen=True)
class DPS(GradientMethod):
    """Move, then step against the gradient of the measurement's error (Chung et al. 2023, algorithm 1:
    `x_s = x_s' - zeta d|y - A x0(x_t)| / d x_t`, the norm of each picture its own).

    With the weighting "pigdm" the score of y given x_t is added ahead of the move (PiGDM, Song et al. 2023, section 3:
    `x0' = x0 + sigma_t^2 / sqrt(alpha_bar_t) (d x0 / d x_t)^T At (r^2 A At + sigma_y^2)^-1 (y - A x0)`, `r^2 = sigma_t^2`,
    and eps' belongs to x0').
    """

    papers: ClassVar = (papers.DPS, papers.PIGDM)

    zeta: Annotated[float, Field(ge=0)] = 0.5
    """Length of the step, as in the authors' code (their paper's equation has the gradient of the square, divided by the norm)."""
    weighting: Literal["dps", "pigdm"] = "dps"
    """dps: a step of `zeta`; pigdm: nothing to tune, for few steps."""
    sigma_y: Annotated[float, Field(ge=0)] = 0.0
    """With pigdm: standard deviation of the noise in y, in units of pictures in [-1, 1]."""
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """0 = DDIM moves ... 1 = DDPM moves, with the learned variance where the network has one."""
    renoise: Annotated[float, Field(ge=0, le=1)] | None = None
    """Move with this share of fresh noise instead (as ddnm); helps when the steps are few."""
    walk: Walk = Walk(1000)

    @torch.enable_grad()
    def step(self, state: State, s: int, c: Context) -> State:
        t, x = state.t, state.x.detach().requires_grad_()
        p = c.predict(x, t)
        error = c.operator.residual(p.x0, c.y)
        if self.weighting == "pigdm":
            pull = c.operator.pinv(error.detach(), (self.sigma_y / c.schedule.sigma(t)) ** 2)
            gain = pulled_back(p.x0, x, pull, self) / c.schedule.a(t)  # sigma_t^2 / r^2 = 1
            x0 = c.clamped(p.x0.detach() + gain)
            p, step = replace(p, x0=x0, eps=c.schedule.eps(x.detach(), x0, t)), torch.zeros_like(gain)
        else:
            step = self.zeta * pulled_back(error, x, error.detach(), self) / per_picture(squares(error).sqrt()).clamp(min=1e-12)
        with torch.no_grad():
            moved = c.move(p, t, s, self.eta) if self.renoise is None else c.mixed(p, s, self.renoise)
            return replace(state, t=s, x=(moved - step).detach(), x0=p.x0.detach(), x0_t=t)
