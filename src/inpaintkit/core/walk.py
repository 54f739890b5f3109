"""The time walk: which noise levels are visited, as a plain list of ints from the start down to 0, jumps included."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from inpaintkit.core.errors import UsageError
from inpaintkit.core.schedule import SCHEDULES, NoiseSchedule
from inpaintkit.core.settings import Settings

Spacing = Literal["even", "ddim", "trailing", "quadratic", "quadratic_late", "linear", "cosine", "scaled_linear"]


@dataclass(frozen=True)
class Walk(Settings):
    """A walk of `steps` levels down to the clean picture, with RePaint's jumps when `jump_n_sample` > 1."""

    steps: Annotated[int, Field(ge=1, le=100_000)] = 250
    """Levels visited on the way down, not counting jumps."""
    spacing: Spacing = "even"
    """even: guided-diffusion's "N", both ends kept; ddim: its "ddimN", an integer stride; trailing: from the last level
    in equal strides; quadratic: dense near the clean end, from 0.8 T (DDIM); quadratic_late: dense near the noisy end
    (DiffPIR); linear, cosine, scaled_linear: the trained levels whose noise is nearest to that schedule's."""
    jump_length: Annotated[int, Field(ge=1)] = 1
    """Levels climbed in one jump (RePaint's j)."""
    jump_n_sample: Annotated[int, Field(ge=1)] = 1
    """How often each stretch of `jump_length` levels is walked (RePaint's r); 1 = no jumps."""
    start: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Where the walk begins, as a share of T; below 1 a picture must be given to start from."""

    def levels(self, schedule: NoiseSchedule) -> list[int]:
        """The visited levels in rising order, `levels[0] = 0`, without jumps. Raises `UsageError` when they do not exist."""
        top = max(1, round(self.start * schedule.T))
        if self.steps > top:
            raise UsageError(f"steps = {self.steps}: the schedule has only {top} levels to walk; use at most {top}")
        return [0, *_spaced(self.spacing, self.steps, top, schedule)]

    def times(self, schedule: NoiseSchedule) -> list[int]:
        """All states visited, from the first level to 0; a rise in the list is a jump (RePaint, appendix B).

        Jumps start from the levels 1, 1 + j, 1 + 2j, ... of the walk, j = jump_length, as in RePaint's scheduler:
        Walk(250, jump_length=10, jump_n_sample=10) has 2,410 moves down and 2,160 moves up.
        """
        levels = self.levels(schedule)
        n, j = len(levels) - 1, self.jump_length
        if self.jump_n_sample > 1 and j >= n:
            raise UsageError(f"jump_length = {j}: a walk of {n} levels has no jump that long; use at most {n - 1}, or jump_n_sample = 1")
        jumps = dict.fromkeys(range(1, n - j + 1, j), self.jump_n_sample - 1)
        place, visited = n, [n]
        while place > 0:
            place -= 1
            visited.append(place)
            if jumps.get(place, 0) > 0:
                jumps[place] -= 1
                visited += range(place + 1, place + j + 1)
                place += j
        return [levels[i] for i in visited]


def moves_down(times: list[int]) -> int:
    """Moves down in a walk: the network evaluations of a method that calls the network once per move."""
    return sum(s < t for t, s in pairwise(times))


def _spaced(spacing: Spacing, n: int, top: int, schedule: NoiseSchedule) -> list[int]:
    """n levels in 1..top, strictly rising."""
    if n == 1:
        return [top]
    match spacing:
        case "even":  # guided-diffusion space_timesteps(T, [n]) counts from 0; ours are one higher
            levels = [1 + round(i * (top - 1) / (n - 1)) for i in range(n)]
        case "ddim":
            stride = next((k for k in range(1, top + 1) if len(range(0, top, k)) == n), 0)
            if not stride:
                raise UsageError(f"steps = {n}: no integer stride gives {n} of {top} levels; use the spacing 'even' or 'trailing'")
            levels = [1 + i for i in range(0, top, stride)]
        case "trailing":
            levels = sorted(round(top - i * top / n) for i in range(n))
        case "quadratic":
            levels = [1 + int((i * math.sqrt(0.8 * top) / (n - 1)) ** 2) for i in range(n)]
        case "quadratic_late":
            levels = [round(math.sqrt(top**2 * i / n)) for i in range(1, n + 1)]
        case _:
            other = SCHEDULES[spacing](schedule.T)
            levels = [min(schedule.nearest(float(other.alpha_bar[round(i * top / n)])), top) for i in range(1, n + 1)]
    return _rising([min(max(level, 1), top) for level in levels], top)


def _rising(levels: list[int], top: int) -> list[int]:
    """The levels made distinct with the least change: equal ones pushed up, then whatever passed the top pushed down."""
    for i in range(1, len(levels)):
        levels[i] = max(levels[i], levels[i - 1] + 1)
    limit = top
    for i in reversed(range(len(levels))):
        levels[i] = min(levels[i], limit)
        limit = levels[i] - 1
    return levels
