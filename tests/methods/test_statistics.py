"""The distribution that comes out, judged on exact denoisers: right where it must be, and wrong by as much as is known."""

from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import mean
from unittest import mock

import numpy as np
import pytest
import torch

from inpaintkit.core.sampler import State
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.evaluate import bench
from inpaintkit.evaluate.bench import Projected, Row, ablation, measured, nearest, rows, settings
from inpaintkit.evaluate.oracle import HOLES, Bulk, Exact, clipped_cosine, context, fill, gaussian, sliced_w2, smooth_cov, waves
from inpaintkit.methods import DDNM, DPS, CoPaint, Plain, RePaint
from methods.cases import trailing

SCHEDULE = clipped_cosine()
COUNT = 4000

# ---- a Gaussian: mean and variance in closed form

# no direction narrower than 0.2: narrower than the noise of the lowest level, and the last move would shrink it
GAUSSIAN = gaussian(torch.linspace(-0.5, 0.5, 8), smooth_cov(8) + 0.05 * torch.eye(8))
KNOWN = torch.tensor([1.0, 1, 0, 0, 0, 1, 0, 1], dtype=torch.float64).reshape(1, 1, 1, 8)
OBSERVED = GAUSSIAN.sample(1, seed=1)
TARGETS = {"prior": GAUSSIAN, "posterior": GAUSSIAN.given(OBSERVED, KNOWN)}


def moments_of_the_walk(variance: float, centre: float, times: list[int], eta: float) -> tuple[float, float]:
    """Mean and variance at the end of a walk in one direction of a Gaussian: there every move is x -> p x + q + sigma noise."""
    ab, m, v = SCHEDULE.alpha_bar.numpy(), 0.0, 1.0  # begins as unit noise
    for t, s in pairwise(times):
        gain = np.sqrt(ab[t]) * variance / (ab[t] * variance + 1 - ab[t])
        sigma = eta * np.sqrt((1 - ab[s]) / (1 - ab[t]) * (1 - ab[t] / ab[s]))
        keep = np.sqrt(1 - ab[s] - sigma**2) / np.sqrt(1 - ab[t])
        p = np.sqrt(ab[s]) * gain + keep * (1 - np.sqrt(ab[t]) * gain)
        q = (np.sqrt(ab[s]) - keep * np.sqrt(ab[t])) * (1 - gain * np.sqrt(ab[t])) * centre
        m, v = p * m + q, p**2 * v + sigma**2
    return float(m), float(v)


def check_moments(method, target, denoiser=None):
    """Mean and variance along every principal direction are the target's.

    Tolerance = 4.5 standard errors of COUNT samples (mean: sd / sqrt(n); variance: var sqrt(2 / n), exact for Gaussians; 32
    comparisons at 4.5 leave 1 false alarm in 4000 seeds) + the error of so many steps, computed exactly by
    `moments_of_the_walk` and itself held below 0.02 sd and 4 % of the variance, so that the check means something.
    """
    variances, directions = (part[0] for part in target.eigen)
    x = fill(method, denoiser or Exact(target, SCHEDULE), OBSERVED, KNOWN, Bulk(COUNT, seed=7)).flatten(1) @ directions
    times, centres = method.walk.times(SCHEDULE), target.means[0, 0] @ directions
    for i, (variance, centre) in enumerate(zip(variances.tolist(), centres.tolist(), strict=True)):
        m, v = moments_of_the_walk(variance, centre, times, method.eta)
        sd = variance**0.5
        assert abs(m - centre) <= 0.02 * sd + 1e-12
        assert abs(v - variance) <= 0.04 * variance + 1e-12
        assert abs(float(x[:, i].mean()) - centre) <= abs(m - centre) + 4.5 * sd / COUNT**0.5 + 1e-12
        assert abs(float(x[:, i].var()) - variance) <= abs(v - variance) + 4.5 * variance * (2 / COUNT) ** 0.5 + 1e-12


MOVES = {name: Plain(eta=eta, walk=trailing(500)) for name, eta in (("ddim", 0.0), ("eta 0.5", 0.5), ("ddpm", 1.0))}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("moves", MOVES)
def test_the_network_alone_reproduces_mean_and_variance(moves, target):
    check_moments(MOVES[moves], TARGETS[target])


@dataclass(frozen=True)
class NoFreshNoise(Plain):
    def step(self, state, s, c):
        p = c.predict(state.x, state.t)
        return State(s, c.schedule.mean(p.x0, p.eps, state.t, s, self.eta), p.x0, state.t)  # right: + sigma noise


@dataclass(frozen=True)
class VarianceOfBeta(Plain):
    def step(self, state, s, c):
        p, beta = c.predict(state.x, state.t), c.schedule.beta(state.t, s)
        mean = c.schedule.mean(p.x0, p.eps, state.t, s, 1.0)
        return State(s, mean + beta * c.noise_like("move", mean), p.x0, state.t)  # right: its square root, and the posterior's


@pytest.mark.parametrize("twin", [NoFreshNoise, VarianceOfBeta])
def test_a_move_with_the_wrong_noise_is_noticed(twin):
    with pytest.raises(AssertionError):
        check_moments(twin(eta=1.0, walk=trailing(500)), TARGETS["posterior"])


def test_a_network_that_was_not_told_is_noticed():
    with pytest.raises(AssertionError):
        check_moments(MOVES["ddpm"], TARGETS["posterior"], Exact(GAUSSIAN, SCHEDULE))


def test_a_jump_up_has_the_moments_of_the_noisier_level():
    count, t, s = 20_000, 300, 700
    c = context(Plain(walk=trailing(10)), Exact(GAUSSIAN, SCHEDULE), OBSERVED, KNOWN, Bulk(count, seed=3))
    x_t = SCHEDULE.noised(OBSERVED.expand(count, -1, -1, -1), t, Bulk(count, seed=4).draw("z", (1, 1, 8)))
    x_s = c.renoise(State(t, x_t), s)
    assert x_s.t == s
    sigma = SCHEDULE.sigma(s)  # 8 means and 8 variances at 4.5 standard errors: 1 false alarm in 9000 seeds
    assert ((x_s.x.mean(0) - SCHEDULE.a(s) * OBSERVED[0]).abs() < 4.5 * sigma / count**0.5).all()
    assert ((x_s.x.var(0) - sigma**2).abs() < 4.5 * sigma**2 * (2 / count) ** 0.5).all()


# ---- the exact mixture: sliced W2 to the exact posterior of the hole

PRIOR = waves()
TOLD = Plain(walk=trailing(10))
ROWS = {
    "injection ddim": RePaint(eta=0.0, walk=trailing(50)),
    "injection ddpm": RePaint(walk=trailing(50)),
    "repaint": RePaint(walk=trailing(50, jump_length=10, jump_n_sample=10)),
}


def distances(method, problems, count, told=False):
    """Sliced W2 in the hole, for every problem the mean over the four holes."""
    return [mean(measured(Row("", method, told=told), hole, problem, count).distance for hole in HOLES) for problem in problems]


def floor(problems, count):
    """The distance of two exact sample sets: what sampling alone costs.

    A measured distance is off by at most the distance of its two finite sets from what they were drawn from (triangle
    inequality); two methods share the set of true samples, so their difference is off by about one floor in the worst case.
    """
    return mean(nearest(problems, count).values())


PROBLEMS, FEW = (0, 1), 400


@pytest.fixture(scope="module")
def sampling_error():
    return floor(PROBLEMS, FEW)


def check_order(measured, sampling_error):
    """Each entry is nearer to the posterior than the one before, by more than sampling can explain."""
    assert all(better < worse - sampling_error for worse, better in pairwise(measured))


CHAINS = {
    "without gradients": [*ROWS.values(), DDNM(walk=trailing(250))],
    "with gradients": [DDNM(walk=trailing(20)), DPS(walk=trailing(50))],
    "with gradients, few steps": [RePaint(walk=trailing(20)), DPS(weighting="pigdm", walk=trailing(20))],
    "coherent": [RePaint(eta=0.0, walk=trailing(20)), CoPaint(lr=1.0, growth=1.0, walk=trailing(10))],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_each_is_nearer_to_the_truth_than_the_one_before_and_a_told_network_nearest(chain, sampling_error):
    """injection DDIM, injection DDPM, RePaint at 410 evaluations, DDNM; and DPS, PiGDM and CoPaint against what they are to beat."""
    untold = [mean(distances(method, bench.PROBLEMS, FEW)) for method in CHAINS[chain]]
    check_order([*untold, mean(distances(TOLD, bench.PROBLEMS, FEW, told=True))], sampling_error)


def test_keeping_the_networks_eps_is_what_makes_projection_work(sampling_error):
    kept, derived = (Projected(eps=eps, eta=1.0, walk=trailing(50)) for eps in ("kept", "re-derived"))
    check_order([mean(distances(method, PROBLEMS, FEW)) for method in (derived, kept)], sampling_error)


def _eps_weight_forgets_sigma(self, x0, eps, t, s, eta):
    return self.a(s) * x0 + self.sigma(s) * eps  # right: sqrt(sigma(s)^2 - posterior_sigma^2)


def _jump_without_the_square_root(self, x_t, t, s, noise):
    r = float(self.alpha_bar[s] / self.alpha_bar[t])
    return r * x_t + (1 - r) ** 0.5 * noise  # right: sqrt(r)


@pytest.mark.parametrize(("formula", "wrong"), [("mean", _eps_weight_forgets_sigma), ("renoised", _jump_without_the_square_root)])
def test_a_broken_repaint_is_no_better_than_injection(formula, wrong, sampling_error):
    # Small faults of the known part (its level, its noise) move this distance by less than sampling does: test_equations sees those.
    injection, repaint = RePaint(walk=trailing(25)), RePaint(walk=trailing(25, jump_length=5, jump_n_sample=5))
    worse = mean(distances(injection, PROBLEMS, FEW))
    check_order([worse, mean(distances(repaint, PROBLEMS, FEW))], sampling_error)
    with mock.patch.object(NoiseSchedule, formula, wrong), pytest.raises(AssertionError):
        check_order([worse, mean(distances(repaint, PROBLEMS, FEW))], sampling_error)


def check_flat(method, few, many, sampling_error, told=False):
    """The distance is the same at few and many steps."""
    short, long = (mean(distances(replace(method, walk=trailing(n)), PROBLEMS, FEW, told)) for n in (few, many))
    assert abs(short - long) < sampling_error


@pytest.mark.parametrize("row", ["injection ddim", "injection ddpm"])
def test_more_steps_do_not_help_injection(row, sampling_error):
    check_flat(ROWS[row], 20, 100, sampling_error)


def test_more_steps_do_help_a_told_network(sampling_error):
    with pytest.raises(AssertionError):
        check_flat(TOLD, 5, 50, sampling_error, told=True)


def test_the_network_alone_reproduces_the_mixture(sampling_error):
    exact, other = (PRIOR.sample(1000, seed).flatten(1) for seed in (1, 2))
    alone = sliced_w2(exact, other)
    y, known = OBSERVED.new_zeros(1, 1, 1, 32), HOLES["box"]
    for eta in (0.0, 1.0):
        got = fill(Plain(eta=eta, walk=trailing(100)), Exact(PRIOR, SCHEDULE), y, known, Bulk(1000, seed=9)).flatten(1)
        assert sliced_w2(got, exact) < 2 * alone  # one floor for each set, and the error of 100 steps is far below it
    one_component = gaussian(*(part[0] for part in PRIOR.moments()))
    assert sliced_w2(one_component.sample(1000, 3).flatten(1), exact) > 2 * alone  # the mixture's own Gaussian does not pass


PUBLISHED = [row for row in (*rows(), *ablation()) if row.published is not None]


@pytest.mark.slow
@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.group}, {settings(row.method)}")
def test_the_figures_are_those_of_the_reference_table(row):
    """Three problems: the survey's own two runs differ by up to 0.05 in single cells, so by about that over sqrt(4) in a mean, twice."""
    found = mean(distances(row.method, bench.PROBLEMS, bench.COUNT, row.told))
    print(f"\n{row.group}, {settings(row.method)}: {found:.3f}, reference {row.published:.3f}")
    assert abs(found - row.published) < 0.05


@pytest.mark.slow
def test_the_order_of_the_methods_with_gaps():
    """conditional < DPS < DDNM < RePaint at 410 < injection DDPM < injection DDIM, each by 0.02 at least; same problems, same noises."""
    told, *others = [TOLD, DPS(walk=trailing(100)), DDNM(walk=trailing(100)), *reversed(ROWS.values())]
    found = [mean(distances(method, bench.PROBLEMS, bench.COUNT, told=method is told)) for method in (told, *others)]
    print(f"\n{[round(d, 3) for d in found]}")
    assert all(worse - better >= 0.02 for better, worse in pairwise(found))
