"""Reference refinement: the coarse content of a reference picture, details of the network's own."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from inpaintkit.core import papers
from inpaintkit.core.resize import LowPass
from inpaintkit.core.sampler import Context, Method, State
from inpaintkit.core.walk import Walk


@dataclass(frozen=True)
class ILVR(Method):
    """Give every state the low frequencies of a reference at its level (Choi et al. 2021, algorithm 1:
    `x_s = phi(y_s) + x_s' - phi(x_s')` with `y_s` the reference noised to level s, and phi a low-pass of factor N).

    y is the reference, a whole picture. Where it is not known the network's own estimate stands in for it, so that a hole is
    left to the network; what is damaged but declared known is reproduced as it is, damage included, above the factor's scale.
    """

    papers: ClassVar = (papers.ILVR, papers.DDPM)

    factor: Annotated[int, Field(ge=1)] = 8
    """N: details smaller than this many pixels are the network's own; 1 = every state is overwritten by the reference."""
    range_t: Annotated[int, Field(ge=0)] = 20
    """The reference counts only above this level, counted in levels of the walk."""
    lowpass: Literal["resize", "pool"] = "resize"
    """resize: antialiased bicubic down and up, as the paper's code; pool: the means of cells."""
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """0 = DDIM moves ... 1 = DDPM moves, with the learned variance where the network has one."""
    walk: Walk = Walk(100)

    def step(self, state: State, s: int, c: Context) -> State:
        phi = LowPass(self.factor, self.lowpass)
        phi.measured(state.x.shape[1:])
        p = c.predict(state.x, state.t)
        x = c.move(p, state.t, s, self.eta)
        if c.conditions(s, self.range_t):
            reference = c.noised(c.operator.project(p.x0, c.y), s)
            x = reference if self.factor == 1 else x + phi.A(reference - x)
        return replace(state, t=s, x=x, x0=p.x0, x0_t=state.t)
