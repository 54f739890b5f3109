"""Coherent inpainting: at every level x_t itself is improved until its estimate agrees with what is known."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from inpaintkit.core import papers
from inpaintkit.core.sampler import Context, Prediction, State
from inpaintkit.core.walk import Walk
from inpaintkit.methods.gradient import GradientMethod, per_picture, pulled_back, squares

SHRINK, TRIES = 0.8, 20  # a step that makes things worse is shortened so, and given up after so many tries (1 % of its length)


@dataclass(frozen=True)
class CoPaint(GradientMethod):
    """Improve x_t at every level by gradient steps until its estimate agrees with y (Zhang et al. 2023, algorithm 1: steps
    against the gradient of `|y - A x0(x_t)|^2 + reg |x_t - x_t^first|^2`, then a DDIM move; with jumps in the walk, CoPaint-TT).

    A step that raises a picture's loss is shortened for that picture alone; evaluations spent on that are counted.
    """

    papers: ClassVar = (papers.COPAINT, papers.DDIM)

    inner: Annotated[int, Field(ge=1)] = 2
    """Gradient steps at each level (G)."""
    lr: Annotated[float, Field(gt=0)] = 0.02
    """Length of a gradient step at the first level, before the factor sqrt(alpha_bar_t)."""
    growth: Annotated[float, Field(gt=0)] = 1.012
    """By which `lr` is multiplied at each following level."""
    reg: Annotated[float, Field(ge=0)] = 1e-4
    """How strongly x_t is held where it came from."""
    reg_growth: Annotated[float, Field(gt=0)] = 1.01
    """By which `reg` is multiplied at each following level."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """0 = DDIM moves ... 1 = DDPM moves."""
    walk: Walk = Walk(250)

    @property
    def calls(self) -> int:
        return 1 + self.inner * (1 + self.frugal)

    def step(self, state: State, s: int, c: Context) -> State:
        p = self.improved(state.x, state.t, c)
        return replace(state, t=s, x=c.move(p, state.t, s, self.eta), x0=p.x0, x0_t=state.t)

    @torch.enable_grad()
    def improved(self, first: Tensor, t: int, c: Context) -> Prediction:
        """The prediction at the improved x_t."""
        passed = len(c.levels) - 1 - c.level(t)
        rate, reg = self.lr * self.growth**passed * c.schedule.a(t), self.reg * self.reg_growth**passed

        def tried(x: Tensor) -> tuple[Tensor, Prediction, Tensor, Tensor]:
            x = x.detach().requires_grad_()
            p = c.predict(x, t)
            error = c.operator.residual(p.x0, c.y)
            return x, p, error, squares(error) + reg * squares(x - first)

        x, p, error, loss = tried(first)
        length = torch.full_like(loss, rate)  # of each picture's step
        for _ in range(self.inner):
            start, before = x.detach(), loss
            down = 2 * (pulled_back(error, x, error.detach(), self) + reg * (start - first))
            for left in reversed(range(TRIES)):
                x, p, error, loss = tried(start - per_picture(length) * down)
                worse = ~(loss <= before)  # NaN too
                if not worse.any():
                    break
                length = torch.where(worse, length * SHRINK if left else 0, length)  # accepted pictures keep their x
            else:
                x, p, error, loss = tried(start - per_picture(length) * down)
        return Prediction(p.x0.detach(), p.eps.detach(), None if p.spread is None else p.spread.detach())
