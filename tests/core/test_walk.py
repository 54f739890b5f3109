"""Which levels are visited: every spacing, the published ones number for number, and RePaint's jumps."""

from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest
from diffusers import DDIMScheduler
from hypothesis import assume, given
from hypothesis import strategies as st

from inpaintkit.core.errors import UsageError
from inpaintkit.core.schedule import SCHEDULES, cosine, linear
from inpaintkit.core.walk import Spacing, Walk, moves_down

LINEAR = linear()
SPACINGS = get_args(Spacing)
every_spacing = pytest.mark.parametrize("spacing", SPACINGS)


def divides(steps, top):
    return any(len(range(0, top, k)) == steps for k in range(1, top + 1))


@every_spacing
@given(T=st.integers(1, 300), share=st.floats(0.001, 1), start=st.floats(0.05, 1), kind=st.sampled_from(list(SCHEDULES)))
def test_every_spacing_falls_strictly_to_0_in_exactly_so_many_moves(spacing, T, share, start, kind):
    schedule, top = SCHEDULES[kind](T), max(1, round(start * T))
    steps = max(1, round(share * top))
    if spacing == "ddim" and steps > 1 and not divides(steps, top):
        return
    times = Walk(steps, spacing, start=start).times(schedule)
    assert len(times) == steps + 1
    assert all(s < t for t, s in pairwise(times))
    assert times[-1] == 0
    assert times[0] <= top


@every_spacing
def test_the_longest_walk_visits_every_level(spacing):
    assert Walk(50, spacing).times(linear(50)) == list(range(50, -1, -1))


@pytest.mark.parametrize("spacing", ["even", "trailing", "quadratic_late", "linear"])
@pytest.mark.parametrize("start", [1.0, 0.5])
def test_a_walk_begins_at_the_last_level_of_its_share(spacing, start):
    assert Walk(50, spacing, start=start).times(LINEAR)[0] == round(1000 * start)


def space_timesteps(T, steps):
    """improved-diffusion's rule for "N": from 0, add the fractional stride (T - 1) / (N - 1), round what is visited."""
    stride, at, visited = (T - 1) / (steps - 1), 0.0, []
    for _ in range(steps):
        visited.append(round(at))
        at += stride
    return visited


@pytest.mark.parametrize("T", [100, 1000, 4000])
def test_even_is_guided_diffusions_respacing_one_level_higher(T):
    schedule = linear(T)
    for steps in (2, 10, 20, 25, 50, 100):
        assert [t - 1 for t in Walk(steps).levels(schedule)[1:]] == space_timesteps(T, steps)
    if T == 1000:
        for steps in range(2, T + 1, 2):  # an even count never meets a tie between two levels (T - 1 is odd), so sums may not differ
            assert [t - 1 for t in Walk(steps).levels(schedule)[1:]] == space_timesteps(T, steps)


def test_even_keeps_both_ends():
    assert Walk(250).levels(LINEAR)[:4] == [0, 1, 5, 9]
    assert Walk(250).levels(LINEAR)[-1] == 1000


@pytest.mark.parametrize(("steps", "stride"), [(10, 100), (25, 40), (50, 20), (100, 10), (250, 4), (500, 2), (1000, 1)])
def test_ddim_is_guided_diffusions_integer_stride_one_level_higher(steps, stride):
    assert [t - 1 for t in Walk(steps, "ddim").levels(LINEAR)[1:]] == list(range(0, 1000, stride))


@pytest.mark.parametrize("steps", [60, 300, 999])
def test_ddim_refuses_a_count_without_an_integer_stride(steps):
    with pytest.raises(UsageError, match=f"steps = {steps}: no integer stride gives {steps} of 1000 levels; use the spacing 'even'"):
        Walk(steps, "ddim").levels(LINEAR)


@pytest.mark.parametrize("T", [100, 1000])
def test_trailing_is_diffusers_one_level_higher(T):
    theirs, schedule, same = DDIMScheduler(num_train_timesteps=T, timestep_spacing="trailing"), linear(T), 0
    for steps in range(1, T + 1):
        theirs.set_timesteps(steps)
        ours, wanted = Walk(steps, "trailing").times(schedule)[:-1], (theirs.timesteps + 1).tolist()
        if len(wanted) != steps:
            continue  # diffusers returns one too many for some counts (a rounding of its arange); ours does not
        ties = sum(2 * i * T % (2 * steps) == steps for i in range(steps))  # a level exactly between two: theirs depends on rounding
        assert sum(a != b for a, b in zip(ours, wanted, strict=True)) <= ties
        assert max(abs(a - b) for a, b in zip(ours, wanted, strict=True)) <= 1
        same += ours == wanted
    assert same > 0.85 * T
    theirs.set_timesteps(50)
    assert Walk(50, "trailing").times(schedule)[:-1] == (theirs.timesteps + 1).tolist()


def test_quadratic_is_dense_near_the_clean_end_and_begins_at_four_fifths():
    levels = Walk(20, "quadratic").levels(LINEAR)
    # tau_i = floor((i sqrt(0.8 T) / (S - 1))^2) counted from 0 (DDIM, appendix D.2); i = 1 would repeat a level, so it moves up
    wanted = [1 + int((i * 800**0.5 / 19) ** 2 + 1e-9) for i in range(20)]
    assert levels[1:-1] == wanted[:-1]
    assert levels[-1] in (800, 801)  # 28.28...^2 is 800 to rounding
    assert levels[2] - levels[1] < levels[-1] - levels[-2]


def test_quadratic_late_is_dense_near_the_noisy_end():
    levels = Walk(20, "quadratic_late").levels(LINEAR)
    assert levels[1:] == [round((1000**2 * i / 20) ** 0.5) for i in range(1, 21)]
    assert levels[1] - levels[0] > levels[-1] - levels[-2]


@pytest.mark.parametrize("name", ["linear", "cosine", "scaled_linear"])
def test_a_schedules_spacing_on_that_schedule_is_equal_strides(name):
    assert Walk(20, name).levels(SCHEDULES[name]()) == list(range(0, 1001, 50))


def test_a_schedules_spacing_on_another_one_visits_its_noise_not_its_index():
    wanted, levels = cosine(), Walk(20, "cosine").levels(LINEAR)

    def log_snr(ab):
        return float((ab / (1 - ab)).log())

    for i, t in enumerate(levels[1:-1], 1):  # no other trained level is nearer; the last is cut off at T
        target = log_snr(wanted.alpha_bar[50 * i])
        assert abs(log_snr(LINEAR.alpha_bar[t]) - target) <= min(abs(log_snr(LINEAR.alpha_bar[t + d]) - target) for d in (-1, 1))
    assert levels != list(range(0, 1001, 50))


@every_spacing
def test_more_steps_than_levels_are_refused_with_the_number_there_is(spacing):
    with pytest.raises(UsageError, match="steps = 101: the schedule has only 100 levels to walk; use at most 100"):
        Walk(101, spacing).levels(linear(100))
    with pytest.raises(UsageError, match="only 50 levels"):
        Walk(51, spacing, start=0.5).levels(linear(100))


# ---- jumps


def repaint_walk(steps, j, r):
    """RePaint, appendix B, counted from its 0: down one level at a time; on landing at a multiple of j with jumps left, up j levels."""
    jumps, at, visited = dict.fromkeys(range(0, steps - j, j), r - 1), steps, []
    while at >= 1:
        at -= 1
        visited.append(at)
        if jumps.get(at, 0) > 0:
            jumps[at] -= 1
            for _ in range(j):
                at += 1
                visited.append(at)
    return [*visited, -1]


@pytest.mark.parametrize(
    ("steps", "j", "r", "down"),
    [
        (250, 10, 10, 2410),
        (100, 10, 10, 910),
        (50, 10, 10, 410),
        (50, 5, 5, 230),
        (25, 5, 5, 105),
        (100, 10, 2, 190),
        (50, 2, 4, 194),
        (250, 1, 1, 250),
    ],
)
def test_repaint_walks_have_the_published_number_of_evaluations(steps, j, r, down):
    times = Walk(steps, jump_length=j, jump_n_sample=r).times(LINEAR)
    assert moves_down(times) == down
    assert sum(s > t for t, s in pairwise(times)) == down - steps  # a climb of j levels costs j more moves down
    if (steps, j, r) == (250, 10, 10):
        assert len(times) - 1 - down == 2160


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 5), st.sampled_from(["even", "trailing"]))
def test_repaint_walks_are_those_of_its_appendix_on_any_levels(steps, j, r, spacing):
    assume(r == 1 or j < steps)
    walk = Walk(steps, spacing, jump_length=j, jump_n_sample=r)
    levels = walk.levels(LINEAR)
    assert walk.times(LINEAR) == [levels[k + 1] for k in repaint_walk(steps, j, r)]


@pytest.mark.parametrize(("steps", "j"), [(1, 1), (5, 5), (5, 9)])
def test_a_jump_longer_than_the_walk_is_refused_unless_there_are_no_jumps(steps, j):
    with pytest.raises(UsageError, match=f"jump_length = {j}: a walk of {steps} levels has no jump that long; use at most {steps - 1}, or"):
        Walk(steps, jump_length=j, jump_n_sample=2).times(LINEAR)
    assert len(Walk(steps, jump_length=j).times(LINEAR)) == steps + 1


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 5))
def test_a_walk_with_jumps_moves_one_level_at_a_time_and_ends_clean(steps, j, r):
    assume(r == 1 or j < steps)
    walk = Walk(steps, jump_length=j, jump_n_sample=r)
    levels, times = walk.levels(LINEAR), walk.times(LINEAR)
    places = [levels.index(t) for t in times]
    assert places[0] == steps
    assert places[-1] == 0
    assert 0 not in places[:-1]
    assert all(abs(a - b) == 1 for a, b in pairwise(places))


@every_spacing
def test_walking_each_stretch_once_is_a_walk_without_jumps(spacing):
    walk = Walk(50, spacing)
    assert replace(walk, jump_length=10).times(LINEAR) == walk.times(LINEAR) == walk.levels(LINEAR)[::-1]
