"""Noise schedules against diffusers' own, and the formulas of the diffusion process against each other and their papers."""

import json
import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import assume, given
from hypothesis import strategies as st

from inpaintkit.core.errors import BadInput
from inpaintkit.core.schedule import SCHEDULES, NoiseSchedule, cosine, from_config, linear, log_likelihood, scaled_linear

LINEAR = linear()
SOME = {"linear": LINEAR, "cosine": cosine(), "scaled_linear": scaled_linear(), "short": linear(100), "coarse cosine": cosine(10)}
every_schedule = pytest.mark.parametrize("schedule", SOME.values(), ids=list(SOME))
level = st.integers(1, 1000)
values = st.lists(st.floats(-3, 3), min_size=6, max_size=6).map(lambda v: torch.tensor(v, dtype=torch.float64).reshape(1, 1, 2, 3))


@pytest.mark.parametrize(("ours", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2"), ("scaled_linear", "scaled_linear")])
def test_the_levels_are_those_of_diffusers(ours, theirs):
    alphas = DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs).alphas_cumprod.double()
    schedule = SCHEDULES[ours]()
    # theirs is in float32: 1000 factors, each rounded twice at 6e-8 (the beta, the product), agree to a relative 1.2e-4
    assert torch.allclose(schedule.alpha_bar[1:], alphas, rtol=1.2e-4, atol=0)
    assert schedule.T == 1000


def test_the_levels_are_tight_enough_to_tell_a_shift_by_one():
    alphas = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear").alphas_cumprod.double()
    assert not torch.allclose(LINEAR.alpha_bar[:-1], alphas, rtol=1.2e-4, atol=0)


def test_published_values_of_the_quadratic_schedule():
    quadratic = scaled_linear()  # research/methods.md 1.1, measured there
    assert float(quadratic.alpha_bar[1000]) == pytest.approx(7.3e-4, rel=0.01)
    assert float(quadratic.alpha_bar[500]) == pytest.approx(0.33, abs=0.005)
    assert float(LINEAR.alpha_bar[500]) == pytest.approx(0.079, abs=0.0005)


@pytest.mark.parametrize("T", [50, 250, 4000])
@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_betas_scale_with_the_number_of_levels(name, T):
    betas = DDPMScheduler(num_train_timesteps=T, beta_schedule=name, beta_start=0.1 / T, beta_end=20 / T).betas.double()
    ours = 1 - SCHEDULES[name](T).alpha_bar[1:] / SCHEDULES[name](T).alpha_bar[:-1]
    assert torch.allclose(ours, betas, rtol=1e-5, atol=1e-12)


@every_schedule
def test_level_0_is_clean_and_every_level_is_noisier_than_the_one_before(schedule):
    assert schedule.alpha_bar[0] == 1
    assert schedule.alpha_bar.dtype == torch.float64
    assert (schedule.alpha_bar.diff() < 0).all()
    assert (schedule.alpha_bar > 0).all()
    assert (schedule.a(0), schedule.sigma(0)) == (1, 0)


@every_schedule
def test_the_configuration_remakes_the_schedule_to_the_bit_also_through_json(schedule):
    assert torch.equal(from_config(json.loads(json.dumps(schedule.config))).alpha_bar, schedule.alpha_bar)


def test_trained_betas_are_taken_as_they_are():
    betas = [0.1, 0.2, 0.4]
    schedule = from_config({"trained_betas": betas, "num_train_timesteps": 1000, "beta_schedule": "linear"})
    assert schedule.alpha_bar.tolist() == pytest.approx([1, 0.9, 0.72, 0.432], abs=1e-15)
    assert torch.equal(from_config(schedule.config).alpha_bar, schedule.alpha_bar)


def test_a_configuration_saved_by_diffusers_is_read():
    theirs = DDPMScheduler(num_train_timesteps=300, beta_schedule="scaled_linear", beta_start=0.001, beta_end=0.012)
    assert torch.allclose(from_config(dict(theirs.config)).alpha_bar[1:], theirs.alphas_cumprod.double(), rtol=4e-5, atol=0)
    assert torch.allclose(from_config({}).alpha_bar[1:], DDPMScheduler().alphas_cumprod.double(), rtol=1.2e-4, atol=0)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid' is not known; use linear, scaled_linear, squaredcos_cap_v2 or"),
        ({"num_train_timesteps": 0}, "num_train_timesteps = 0; between 1 and 100000 are possible"),
        ({"num_train_timesteps": 10**9}, "between 1 and 100000"),
        ({"num_train_timesteps": "many"}, "must be numbers"),
        ({"num_train_timesteps": None}, "must be numbers"),
        ({"num_train_timesteps": math.inf}, "must be numbers"),
        ({"beta_start": "small"}, "must be numbers"),
        ({"beta_start": 0.0}, "must satisfy 0 < start <= end < 1"),
        ({"beta_start": 0.5, "beta_end": 0.1}, "must satisfy"),
        ({"beta_end": 1.0}, "must satisfy"),
        ({"beta_end": math.nan}, "must satisfy"),
        ({"trained_betas": [0.1, 1.0]}, "trained_betas must be a list of numbers between 0 and 1"),
        ({"trained_betas": []}, "trained_betas must be a list"),
        ({"trained_betas": [[0.1], [0.2]]}, "trained_betas must be a list"),
        ({"trained_betas": [0.1, None]}, "must be numbers"),
        ({"trained_betas": "0.1"}, "must be numbers"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is not supported"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}, "not variance-preserving"),
        ({"_class_name": "ScoreSdeVeScheduler", "num_train_timesteps": 2000, "sigma_max": 1348.0}, "not variance-preserving"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_in_one_line(config, says):
    with pytest.raises(BadInput) as error:
        from_config(config, "folder/scheduler_config.json")
    assert str(error.value).startswith("folder/scheduler_config.json: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


# Round trips: float64 rounds at 1e-16; dividing by a(T) = 6e-3 or sigma(1) = 1e-2 amplifies that to 1e-13 at most.


@given(values, values, level)
def test_x0_and_eps_come_back_from_what_they_made(x0, eps, t):
    x_t = LINEAR.noised(x0, t, eps)
    assert torch.allclose(LINEAR.eps(x_t, x0, t), eps, rtol=0, atol=1e-12)
    assert torch.allclose(LINEAR.x0_from_eps(x_t, eps, t), x0, rtol=0, atol=1e-12)
    assert torch.allclose(LINEAR.x0_from_v(x_t, LINEAR.v(x0, eps, t), t), x0, rtol=0, atol=1e-12)


@given(values, values, st.integers(1, 1000), st.integers(0, 999))
def test_a_deterministic_move_lands_on_the_same_x0_and_eps(x0, eps, t, s):
    assume(s < t)
    assert torch.allclose(LINEAR.mean(x0, eps, t, s, 0.0), LINEAR.noised(x0, s, eps), rtol=0, atol=1e-12)


def ddpm_posterior(x_t, x0, t, s, ab):
    """Ho et al. 2020, eq. 6 and 7, for the pair (t, s)."""
    beta = 1 - ab[t] / ab[s]
    mean = np.sqrt(ab[s]) * beta / (1 - ab[t]) * x0 + np.sqrt(1 - beta) * (1 - ab[s]) / (1 - ab[t]) * x_t
    return mean, beta * (1 - ab[s]) / (1 - ab[t])


@pytest.mark.parametrize("schedule", [LINEAR, SOME["cosine"]], ids=["linear", "cosine"])
@given(values, values, st.integers(1, 1000), st.integers(0, 999))
def test_eta_1_is_the_ddpm_posterior_for_any_gap(schedule, x0, eps, t, s):
    assume(s < t)
    ab = schedule.alpha_bar.numpy()
    mean, variance = ddpm_posterior(schedule.noised(x0, t, eps).numpy(), x0.numpy(), t, s, ab)
    assert np.allclose(schedule.mean(x0, eps, t, s, 1.0).numpy(), mean, rtol=0, atol=1e-10)
    assert schedule.posterior_sigma(t, s, 1.0) ** 2 == pytest.approx(variance, rel=1e-10, abs=1e-16)


def test_the_comparison_with_the_posterior_tells_eta_0_from_eta_1():
    x0, eps = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    mean, _ = ddpm_posterior(LINEAR.noised(x0, 600, eps).numpy(), x0.numpy(), 600, 500, LINEAR.alpha_bar.numpy())
    assert abs(float(LINEAR.mean(x0, eps, 600, 500, 0.0)) - float(mean[0])) > 0.01


@given(st.integers(1, 1000), st.integers(0, 999), st.floats(0, 1))
def test_a_move_keeps_the_variance_of_its_level(t, s, eta):
    assume(s < t)
    weight = float(LINEAR.mean(torch.zeros(1), torch.ones(1, dtype=torch.float64), t, s, eta))
    assert weight**2 + LINEAR.posterior_sigma(t, s, eta) ** 2 == pytest.approx(LINEAR.sigma(s) ** 2, abs=1e-12)
    assert LINEAR.posterior_sigma(t, s, eta) == pytest.approx(eta * LINEAR.posterior_sigma(t, s, 1.0), rel=1e-12)


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3, unique=True).map(sorted))
def test_two_jumps_up_are_one_jump_over_both(levels):
    t, u, s = levels
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    scale, noise = (lambda a, b: float(LINEAR.renoised(one, a, b, zero))), (lambda a, b: float(LINEAR.renoised(zero, a, b, one)))
    assert scale(u, s) * scale(t, u) == pytest.approx(scale(t, s), rel=1e-12)
    assert (scale(u, s) * noise(t, u)) ** 2 + noise(u, s) ** 2 == pytest.approx(noise(t, s) ** 2, rel=1e-10)


@given(st.integers(0, 999), st.integers(1, 1000))
def test_a_jump_up_reaches_the_signal_and_noise_of_its_level(t, s):
    assume(t < s)
    r = float(LINEAR.renoised(torch.ones(1, dtype=torch.float64), t, s, torch.zeros(1)))
    w = float(LINEAR.renoised(torch.zeros(1), t, s, torch.ones(1, dtype=torch.float64)))
    assert r * LINEAR.a(t) == pytest.approx(LINEAR.a(s), rel=1e-12)
    assert r**2 * LINEAR.sigma(t) ** 2 + w**2 == pytest.approx(LINEAR.sigma(s) ** 2, rel=1e-10)


@pytest.mark.parametrize(("t", "s"), [(1000, 999), (500, 496), (1000, 800), (2, 1)])
def test_the_learned_deviation_runs_from_the_posteriors_to_betas_for_the_pair_of_levels(t, s):
    low, high, middle = (float(LINEAR.learned_sigma(torch.tensor(v, dtype=torch.float64), t, s)) for v in (-1.0, 1.0, 0.0))
    ab = LINEAR.alpha_bar.numpy()
    assert low == pytest.approx(LINEAR.posterior_sigma(t, s, 1.0), rel=1e-12)
    assert high == pytest.approx(np.sqrt(1 - ab[t] / ab[s]), rel=1e-12)
    assert middle == pytest.approx(math.sqrt(low * high), rel=1e-12)  # halfway in the logarithm
    assert low < middle < high


def test_the_last_move_has_no_learned_noise():
    assert LINEAR.learned_sigma(torch.ones(3), 4, 0) == 0.0


@every_schedule
def test_the_nearest_level_of_a_levels_own_noise_is_that_level(schedule):
    assert [schedule.nearest(float(v)) for v in schedule.alpha_bar[1:]] == list(range(1, schedule.T + 1))


def test_the_nearest_level_of_any_noise_exists():
    assert (LINEAR.nearest(1.0), LINEAR.nearest(0.0)) == (1, 1000)
    between = math.sqrt(float(LINEAR.alpha_bar[500] * LINEAR.alpha_bar[501]))
    assert LINEAR.nearest(between) in (500, 501)


def test_numbers_leave_the_schedule_without_changing_a_pictures_precision():
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for made in (LINEAR.noised(x, 300, x), LINEAR.eps(x, x, 300), LINEAR.mean(x, x, 300, 200, 1.0), LINEAR.renoised(x, 200, 300, x)):
        assert made.dtype == torch.float32
    assert LINEAR.learned_sigma(x.clamp(-1, 1), 300, 200).dtype == torch.float32


def test_a_schedule_may_have_one_level():
    assert NoiseSchedule(torch.tensor([1.0, 0.1], dtype=torch.float64), {}).T == 1
    assert all(make(1).T == 1 for make in SCHEDULES.values())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_batch_of_levels_gets_the_numbers_of_each_of_them(schedule):
    levels, t = schedule(1000), torch.tensor([2, 500, 1000])
    numbers = {
        "a": lambda t: levels.a(t),
        "sigma": lambda t: levels.sigma(t),
        "snr": lambda t: levels.snr(t),
        "beta": lambda t: levels.beta(t, t - 1),
        "posterior_sigma": lambda t: levels.posterior_sigma(t, t - 1, 1.0),
    }
    for name, number in numbers.items():
        found = number(t)
        assert (found.shape, found.dtype) == ((3, 1, 1, 1), torch.float32), name
        assert found.flatten().tolist() == pytest.approx([number(int(level)) for level in t], rel=1e-7), name
    x0, eps = torch.randn((2, 3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    alone = torch.cat([levels.mean(x0[i : i + 1], eps[i : i + 1], int(t[i]), int(t[i]) - 1, 1.0) for i in range(3)])
    assert torch.allclose(levels.mean(x0, eps, t, t - 1, 1.0), alone, atol=1e-6)


def test_the_bound_is_the_divergence_of_two_gaussians():
    """Against torch.distributions, which has its own formula; in bits."""
    levels, t, rng = linear(1000), torch.tensor([2, 400, 1000]), torch.Generator().manual_seed(0)
    x0, eps, guess, spread = torch.randn((4, 3, 3, 4, 4), generator=rng)
    x_t = levels.noised(x0, t, eps)
    found = levels.bound(x0, x_t, guess, spread, t)
    for i, level in enumerate(t.tolist()):
        true = levels.mean(x0[i].double(), levels.eps(x_t[i].double(), x0[i].double(), level), level, level - 1, 1.0)
        made = levels.mean(guess[i].double(), levels.eps(x_t[i].double(), guess[i].double(), level), level, level - 1, 1.0)
        normal, sigma = torch.distributions.Normal, levels.learned_sigma(spread[i].double(), level, level - 1)
        wanted = torch.distributions.kl_divergence(normal(true, levels.posterior_sigma(level, level - 1, 1.0)), normal(made, sigma))
        assert torch.allclose(found[i].double(), wanted / math.log(2), rtol=1e-3, atol=1e-5), level


def test_at_the_first_level_the_bound_is_the_likelihood_of_the_8_bit_values():
    levels, t = linear(1000), torch.tensor([1])
    x0 = (torch.arange(256) / 127.5 - 1).view(1, 1, 16, 16)
    spread = torch.zeros_like(x0)
    found = levels.bound(x0, levels.noised(x0, t, torch.zeros_like(x0)), x0, spread, t)
    low, high = levels.posterior_sigma(2, 1, 1.0), math.sqrt(levels.beta(1, 0))
    sigma = math.sqrt(low * high)
    inside = math.erf(1 / 255 / sigma / math.sqrt(2))
    assert found[0, 0, 5, 5].item() == pytest.approx(-math.log2(inside), rel=1e-3, abs=1e-6)


def test_the_likelihoods_of_all_256_values_sum_to_one():
    values = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(1, 1, 16, 16)
    for mean, sigma in ((0.3, 0.5), (-0.99, 0.05), (1.0, 2.0)):
        total = log_likelihood(values, torch.full_like(values, mean), torch.full_like(values, sigma)).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-6)
