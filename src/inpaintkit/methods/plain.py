"""The network alone."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from inpaintkit.core import papers
from inpaintkit.core.sampler import Context, Method, State
from inpaintkit.core.walk import Walk


@dataclass(frozen=True)
class Plain(Method):
    """DDIM (Song, Meng and Ermon 2021, eq. 12) with what the network itself says, nothing added.

    A mask-conditioned network is told the known pixels and needs no more; any other network ignores them and samples
    a picture of its own.
    """

    papers: ClassVar = (papers.DDIM,)
    tells_network: ClassVar[bool] = True

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """0 = deterministic DDIM ... 1 = DDPM."""
    walk: Walk = Walk(20, "trailing")

    def step(self, state: State, s: int, c: Context) -> State:
        p = c.predict(state.x, state.t)
        return replace(state, t=s, x=c.move(p, state.t, s, self.eta), x0=p.x0, x0_t=state.t)
