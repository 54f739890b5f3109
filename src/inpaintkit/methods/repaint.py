"""Known-region injection: the replacement method, and RePaint, which walks it with jumps."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from inpaintkit.core import papers
from inpaintkit.core.errors import UsageError
from inpaintkit.core.sampler import Context, Method, State
from inpaintkit.core.walk import Walk


@dataclass(frozen=True)
class RePaint(Method):
    """Put the re-noised known pixels back at every step (Lugmayr et al. 2022, eq. 8, with Algorithm 1's line 5 corrected:
    `x_s = known (sqrt(alpha_bar_s) y + sqrt(1 - alpha_bar_s) noise) + (1 - known) x_s`).

    With jumps in the walk this is RePaint; without them it is the replacement method of Song et al. 2021 (appendix I.2),
    whose bias does not vanish with more steps.
    """

    papers: ClassVar = (papers.REPAINT, papers.SCORE_SDE, papers.DDPM, papers.DDIM)

    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """0 = DDIM moves ... 1 = DDPM moves, with the learned variance where the network has one."""
    merge: Literal["after", "before"] = "after"
    """after: known pixels enter the state just reached, at its level, exact at the end; before: as RePaint's code, they
    enter ahead of the network, at the level of its input, but not ahead of the first evaluation."""
    range_t: Annotated[int, Field(ge=0)] = 0
    """Known pixels enter only above this level, counted in levels of the walk."""
    walk: Walk = Walk(250, jump_length=10, jump_n_sample=10)

    def step(self, state: State, s: int, c: Context) -> State:
        x, t = state.x, state.t
        if self.merge == "before" and state.x0 is not None:
            x = self.merged(x, t, c)
        p = c.predict(x, t)
        x = c.move(p, t, s, self.eta)
        if self.merge == "after":
            x = self.merged(x, s, c)
        return replace(state, t=s, x=x, x0=p.x0, x0_t=t)

    def merged(self, x: Tensor, t: int, c: Context) -> Tensor:
        known = c.operator.known()
        if known is None:
            raise UsageError(f"repaint needs known pixels; {type(c.operator).__name__} measures something else, use ddnm")
        if not c.conditions(t, self.range_t):
            return x
        return torch.where(known > 0, c.noised(c.y, t), x)  # y may hold anything in the hole, NaN too
