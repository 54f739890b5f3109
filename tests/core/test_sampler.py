"""The loop and what a method sees of the world: predictions, moves, starts."""

from dataclasses import dataclass, replace

import pytest
import torch

from inpaintkit.core.errors import UsageError
from inpaintkit.core.noise import Noise
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, Method, Prediction, State, begin, sample
from inpaintkit.core.schedule import NoiseSchedule, linear
from inpaintkit.core.walk import Walk

SCHEDULE = linear()
SHAPE = (3, 4, 4)
SEEDS = (1, 2)


@dataclass(frozen=True)
class Halves:
    """A small network of its own: half the picture plus the level's share."""

    spread: torch.Tensor | None = None
    clamp: bool = False
    schedule: NoiseSchedule = SCHEDULE

    def __call__(self, x, t):
        return x / 2 + t / self.schedule.T, self.spread


def context(denoiser, levels=(0, 250, 500, 1000)):
    y = torch.zeros(2, *SHAPE, dtype=torch.float64)
    return Context(denoiser, Known(torch.ones(1, 1, 4, 4, dtype=torch.float64)), y, Noise(SEEDS, torch.float64), levels)


def picture(seed=0, scale=1.0):
    return scale * torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("t", [250, 1000])
def test_a_predictions_x0_and_eps_always_make_up_the_state(clamp, t):
    x = picture(scale=3)
    p = context(Halves(clamp=clamp)).predict(x, t)
    assert torch.allclose(SCHEDULE.noised(p.x0, t, p.eps), x, rtol=0, atol=1e-12)
    assert (p.x0.abs().max() <= 1) == clamp  # pictures are clamped, and 3 sigma leave the range otherwise


SPREAD = torch.linspace(-1, 1, 2 * 3 * 4 * 4, dtype=torch.float64).reshape(2, *SHAPE)


def deviation(p, t, s, eta):
    """What a move added to its mean, per unit of the noise it drew."""
    moved = context(Halves()).move(p, t, s, eta)
    return (moved - SCHEDULE.mean(p.x0, p.eps, t, s, eta)) / Noise(SEEDS, torch.float64).draw("move", SHAPE)


@pytest.mark.parametrize(("t", "s"), [(1000, 500), (500, 499), (250, 100)])
def test_a_move_with_eta_1_uses_the_learned_variance_of_the_pair_of_levels(t, s):
    p = Prediction(picture(1), picture(2), SPREAD)
    ab = SCHEDULE.alpha_bar
    log_beta, log_posterior = (1 - ab[t] / ab[s]).log(), ((1 - ab[s]) / (1 - ab[t]) * (1 - ab[t] / ab[s])).log()
    share = (SPREAD + 1) / 2
    learned = ((share * log_beta + (1 - share) * log_posterior) / 2).exp()  # Nichol and Dhariwal 2021, eq. 15
    assert torch.allclose(deviation(p, t, s, 1.0), learned, rtol=1e-9, atol=0)
    assert not torch.allclose(deviation(replace(p, spread=None), t, s, 1.0), learned, rtol=1e-6, atol=0)


@pytest.mark.parametrize("spread", [-1.0, 1.0])
def test_the_ends_of_the_learned_variance_are_the_posteriors_and_betas(spread):
    p = Prediction(picture(1), picture(2), torch.full((2, *SHAPE), spread, dtype=torch.float64))
    bound = SCHEDULE.posterior_sigma(500, 250, 1.0) if spread < 0 else SCHEDULE.beta(500, 250) ** 0.5
    assert torch.allclose(deviation(p, 500, 250, 1.0), torch.tensor(bound, dtype=torch.float64), rtol=1e-9, atol=0)


def test_other_moves_ignore_the_learned_variance():
    p = Prediction(picture(1), picture(2), SPREAD)
    for eta in (0.0, 0.5):
        assert torch.equal(context(Halves()).move(p, 500, 250, eta), context(Halves()).move(replace(p, spread=None), 500, 250, eta))


def test_a_deterministic_move_and_the_last_move_draw_no_noise():
    c = context(Halves())
    c.noise = None  # any draw now raises
    p = Prediction(picture(1), picture(2), SPREAD)
    assert torch.allclose(c.move(p, 500, 250, 0.0), SCHEDULE.noised(p.x0, 250, p.eps))
    assert torch.equal(c.move(p, 250, 0, 1.0), p.x0)
    with pytest.raises(AttributeError):
        c.move(p, 500, 250, 0.5)


def test_a_clean_picture_noised_to_level_0_is_itself_and_draws_nothing():
    c, x0 = context(Halves()), picture()
    assert c.noised(x0, 0) is x0
    noise = Noise(SEEDS, torch.float64).draw("known", SHAPE)
    assert torch.equal(c.noised(x0, 500), SCHEDULE.a(500) * x0 + SCHEDULE.sigma(500) * noise)


def test_levels_are_counted_in_the_walk():
    c = context(Halves())
    assert [c.level(t) for t in (0, 250, 500, 1000)] == [0, 1, 2, 3]
    assert c.first == 1000


def test_a_walk_from_the_top_begins_with_the_pictures_own_unit_noise():
    start = begin(context(Halves()), SHAPE)
    assert (start.t, start.x0, start.x0_t) == (1000, None, None)
    assert torch.equal(start.x, Noise(SEEDS, torch.float64).draw("init", SHAPE))


def test_a_walk_from_a_picture_begins_with_it_noised_to_the_first_level():
    given = picture()
    start = begin(context(Halves(), [0, 100, 300]), SHAPE, given)
    assert start.t == 300
    assert torch.equal(start.x, SCHEDULE.noised(given, 300, Noise(SEEDS, torch.float64).draw("init", SHAPE)))


def test_a_walk_from_part_way_down_needs_a_picture_to_start_from():
    with pytest.raises(UsageError, match=r"a picture to start from is needed; leave walk\.start at 1"):
        begin(context(Halves(), [0, 100, 300]), SHAPE)
    begin(context(Halves(), [0, 400, 801]), SHAPE)  # DDIM's quadratic spacing begins at 0.8 T, in almost pure noise


@dataclass(frozen=True)
class Records(Method):
    """Notes every move it is asked for in the picture itself."""

    def step(self, state, s, c):
        assert s < state.t
        return State(s, 2 * state.x, state.x, state.t)


def test_the_loop_steps_down_jumps_up_and_yields_every_state():
    c = context(Halves())
    walk = [1000, 500, 250, 500, 250, 0]
    start = begin(c, SHAPE)
    states = list(sample(Records(), walk, start, c))
    assert [state.t for state in states] == walk[1:]
    jump = Noise(SEEDS, torch.float64).draw("jump", SHAPE)
    assert torch.equal(states[1].x, 4 * start.x)
    assert torch.equal(states[2].x, SCHEDULE.renoised(states[1].x, 250, 500, jump))
    assert torch.equal(states[2].x0, states[1].x0)  # the latest estimate survives a jump
    assert torch.equal(states[4].x, 4 * states[2].x)


def test_the_caller_can_stop_between_moves():
    c = context(Halves())
    states = sample(Records(), [1000, 500, 250, 0], begin(c, SHAPE), c)
    assert next(states).t == 500
    states.close()
    assert list(states) == []


def test_a_method_without_a_step_cannot_be_made():
    class Nothing(Method):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing(walk=Walk(10))
