"""The only sampling loop, and what a method sees of the world while it runs in it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Protocol

from pydantic import Field
from torch import Tensor

from inpaintkit.core.errors import UsageError
from inpaintkit.core.noise import Noise
from inpaintkit.core.operators import Operator
from inpaintkit.core.papers import Paper
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.core.settings import Settings
from inpaintkit.core.walk import Walk


@dataclass(frozen=True)
class State:
    """What the loop yields after each move."""

    t: int
    """Level reached; 0 = clean."""
    x: Tensor
    """`(B, C, H, W)` at that level."""
    x0: Tensor | None = None
    """Latest clean estimate: previews, multistep solvers, early stop."""
    x0_t: int | None = None
    """The level `x0` was estimated at."""


@dataclass(frozen=True)
class Prediction:
    """What a network says about x_t. `(x0, eps)` always travel together."""

    x0: Tensor
    eps: Tensor
    spread: Tensor | None = None
    """Raw learned interpolation of the variance, in [-1, 1], or None."""


class Denoiser(Protocol):
    """A network wrapped so that it returns the clean picture."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule the network was trained with."""
        ...

    @property
    def clamp(self) -> bool:
        """Whether x0 is bounded to [-1, 1]."""
        ...

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """(x0 before clamping, spread or None) for x `(B, C, H, W)` at level t in 1..T."""
        ...


@dataclass
class Context:
    """The denoiser, what was measured, and the noise. Carries no state of the walk."""

    denoiser: Denoiser
    operator: Operator
    y: Tensor
    """The measurement; for `Known` a picture `(B or 1, C, H, W)`, read only where known."""
    noise: Noise
    levels: Sequence[int]
    """Levels of the walk in rising order, `levels[0] = 0`."""
    notes: list[str] = field(default_factory=list)
    """What the method found worth telling the caller; each remark once."""
    first: int = field(init=False)
    """The level the walk starts at."""

    def __post_init__(self) -> None:
        self.first = self.levels[-1]
        self._index = {t: i for i, t in enumerate(self.levels)}

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def level(self, t: int) -> int:
        """t counted in levels of the walk: 0 = clean."""
        return self._index[t]

    def predict(self, x: Tensor, t: int) -> Prediction:
        """Ask the network. x0 is clamped when the model's config says so, and eps re-derived from the clamped x0."""
        x0, spread = self.denoiser(x, t)
        x0 = self.clamped(x0)
        return Prediction(x0, self.schedule.eps(x, x0, t), spread)

    def clamped(self, x0: Tensor) -> Tensor:
        """x0 within the bounds of the model's pictures, if they have any."""
        return x0.clamp(-1, 1) if self.denoiser.clamp else x0

    def move(self, p: Prediction, t: int, s: int, eta: float = 0.0) -> Tensor:
        """x_s from a prediction at t > s: DDIM at eta = 0, the DDPM posterior at eta = 1 (then with the learned variance, if any)."""
        mean = self.schedule.mean(p.x0, p.eps, t, s, eta)
        if eta == 0 or s == 0:
            return mean
        if p.spread is not None and eta == 1:
            return mean + self.schedule.learned_sigma(p.spread, t, s) * self.noise_like("move", mean)
        return mean + self.schedule.posterior_sigma(t, s, eta) * self.noise_like("move", mean)

    def mixed(self, p: Prediction, s: int, share: float) -> Tensor:
        """x_s from a prediction at any t > s with `share`^2 of its noise fresh: 0 = DDIM, 1 = all of it."""
        if share == 0 or s == 0:
            return self.schedule.noised(p.x0, s, p.eps)
        return self.schedule.mixed(p.x0, p.eps, self.noise_like("move", p.x0), s, share)

    def renoise(self, state: State, s: int) -> State:
        """Up to the noisier level s (a jump)."""
        noise = self.noise_like("jump", state.x)
        return State(s, self.schedule.renoised(state.x, state.t, s, noise), state.x0, state.x0_t)

    def noised(self, x0: Tensor, s: int) -> Tensor:
        """A clean picture taken to level s with fresh noise; at s = 0 the picture itself."""
        return x0 if s == 0 else self.schedule.noised(x0, s, self.noise_like("known", x0))

    def conditions(self, s: int, range_t: int) -> bool:
        """Whether a condition that counts only above `range_t` levels of the walk (0: everywhere) counts at s; notes when it never does."""
        reached = len(self.levels) - 2  # the highest level a move can reach
        if range_t > 0 and range_t >= reached:
            self.note(f"range_t = {range_t}: the walk reaches levels {reached} to 0 only, so y is never used and any picture may come out")
        return range_t == 0 or self.level(s) > range_t

    def note(self, text: str) -> None:
        """Tell the caller something, once."""
        if text not in self.notes:
            self.notes.append(text)

    def noise_like(self, stream: str, x: Tensor) -> Tensor:
        """Fresh noise `(B, C, H, W)` on x's device."""
        return self.noise.draw(stream, x.shape[1:]).to(x.device)


@dataclass(frozen=True)
class Method(Settings, ABC):
    """How to walk down. A method is a frozen dataclass with its paper's defaults and exactly one `step`."""

    papers: ClassVar[tuple[Paper, ...]] = ()
    """What to cite."""
    tells_network: ClassVar[bool] = False
    """Whether a mask-conditioned network is told the known pixels when this method runs."""

    walk: Walk = Walk()
    """The levels visited."""

    @property
    def calls(self) -> int:
        """Network evaluations of a move down, where nothing has to be tried again."""
        return 1

    @abstractmethod
    def step(self, state: State, s: int, c: Context) -> State:
        """One move down, from `state.t` to s < `state.t`."""


Seed = Annotated[int, Field(ge=0, lt=2**63)]


def begin(c: Context, shape: Sequence[int], x0: Tensor | None = None) -> State:
    """The first state: pure noise `(B, *shape)`, or a given clean picture noised to the walk's first level.

    Raises `BadInput` when y is not what the operator measures of such pictures.
    """
    noise = c.noise.draw("init", shape).to(c.y.device)
    c.operator.check(c.y, noise.shape)
    if x0 is not None:
        return State(c.first, c.schedule.noised(x0, c.first, noise))
    if c.first < c.schedule.T and c.schedule.sigma(c.first) < 0.9:
        raise UsageError("the walk starts part-way down, so a picture to start from is needed; leave walk.start at 1")
    return State(c.first, noise)


def sample(method: Method, walk: Sequence[int], state: State, c: Context) -> Iterator[State]:
    """Walk down the levels (up, where the walk rises) and yield each state. The caller shows progress, stops or cancels."""
    for s in walk[1:]:
        state = method.step(state, s, c) if s < state.t else c.renoise(state, s)
        yield state
