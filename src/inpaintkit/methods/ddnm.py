"""Projection of the clean estimate, then mostly fresh noise: the default where the network is not told the hole."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from inpaintkit.core import papers
from inpaintkit.core.sampler import Context, Method, State
from inpaintkit.core.walk import Walk


@dataclass(frozen=True)
class DDNM(Method):
    """Project x0 onto the pictures that measure as y, and noise it again (Wang et al. 2023, eq. 13 and algorithm 1:
    `x0' = x0 + pinv(A) (y - A x0)`, `x_s = sqrt(alpha_bar_s) x0' + sqrt(1 - alpha_bar_s) (renoise noise + sqrt(1 - renoise^2) eps)`).

    eps is the network's, from before the projection: most of the gain over the paper's equation, where it is derived again
    from x0' (docs/benchmarks/oracle.md). With `sigma_y` > 0 the projection becomes DiffPIR's prox (Zhu et al. 2023, algorithm 1).
    """

    papers: ClassVar = (papers.DDNM, papers.DIFFPIR)

    renoise: Annotated[float, Field(ge=0, le=1)] = 0.85
    """Share of the noise's amplitude that is drawn afresh in every move; 0 = DDIM. Called eta in DDNM's code, not DDIM's eta."""
    sigma_y: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the noise in y, in units of pictures in [-1, 1]; 0 = y is exact and is reproduced exactly."""
    trust: Annotated[float, Field(gt=0)] = 1.0
    """With noisy y: how much the network's estimate counts against it (DiffPIR's lambda)."""
    walk: Walk = Walk(100, "trailing")

    def step(self, state: State, s: int, c: Context) -> State:
        p = c.predict(state.x, state.t)
        ratio = self.trust * (self.sigma_y * c.schedule.a(state.t) / c.schedule.sigma(state.t)) ** 2
        p = replace(p, x0=c.operator.project(p.x0, c.y, ratio))
        return replace(state, t=s, x=c.mixed(p, s, self.renoise), x0=p.x0, x0_t=state.t)
