"""The oracle itself, against torch.distributions and against known answers."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from inpaintkit.core.walk import Walk
from inpaintkit.evaluate.oracle import HOLES, Bulk, Exact, Mixture, clipped_cosine, gaussian, in_hole, sliced_w2, smooth_cov, waves

PRIOR, SCHEDULE = waves(), clipped_cosine()
Y = PRIOR.sample(1, seed=5)


def density(prior: Mixture, a: float = 1.0, sigma: float = 0.0, index=slice(None)) -> MixtureSameFamily:
    """The density of a x0 + sigma eps at the values `index`, from torch.distributions."""
    covs = a**2 * prior.covs + sigma**2 * torch.eye(prior.n, dtype=torch.float64)
    normals = MultivariateNormal(a * prior.means[0][:, index], covs[:, index][:, :, index])
    return MixtureSameFamily(Categorical(prior.weights[0]), normals)


def tweedie(prior: Mixture, x, t, index=slice(None)):
    """E[x0 | x_t] as (x + sigma^2 grad log p_t(x)) / a."""
    a, sigma = SCHEDULE.a(t), SCHEDULE.sigma(t)
    x = x.clone().requires_grad_()
    (score,) = torch.autograd.grad(density(prior, a, sigma, index).log_prob(x).sum(), x)
    return ((x + sigma**2 * score) / a).detach()


@pytest.mark.parametrize("t", [20, 200, 500, 900])
def test_the_denoiser_is_tweedies_formula_for_the_prior(t):
    x = SCHEDULE.noised(PRIOR.sample(16, seed=1), t, Bulk(16, 2).draw("z", (1, 1, 32)))
    assert torch.allclose(Exact(PRIOR, SCHEDULE)(x, t)[0].flatten(1), tweedie(PRIOR, x.flatten(1), t), rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", [20, 500, 900])
@pytest.mark.parametrize("hole", HOLES)
def test_the_told_denoiser_is_tweedies_formula_for_the_posterior_and_returns_the_known_values(hole, t):
    known = HOLES[hole]
    free = known.flatten() == 0
    x = SCHEDULE.noised(PRIOR.sample(16, seed=1), t, Bulk(16, 2).draw("z", (1, 1, 32)))
    posterior = PRIOR.given(Y, known)
    x0 = Exact(posterior, SCHEDULE)(x, t)[0]
    assert torch.allclose(in_hole(x0, known), tweedie(posterior, in_hole(x, known), t, free.nonzero().flatten()), rtol=0, atol=1e-9)
    assert torch.allclose(x0.flatten(1)[:, ~free], Y.flatten(1)[:, ~free].expand(16, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hole", HOLES)
def test_the_posterior_of_the_hole_is_the_joint_density_with_the_known_values_held(hole):
    known = HOLES[hole]
    free = (known.flatten() == 0).nonzero().flatten()
    posterior = PRIOR.given(Y, known)
    candidates = posterior.sample(50, seed=3).flatten(1) * 1.1  # any points will do
    whole = Y.flatten(1).repeat(50, 1)
    whole[:, free] = candidates[:, free]
    joint, conditional = density(PRIOR).log_prob(whole), density(posterior, index=free).log_prob(candidates[:, free])
    seen = (known.flatten() > 0).nonzero().flatten()
    evidence = density(PRIOR, index=seen).log_prob(Y.flatten(1)[:, seen])  # Bayes: the same for every candidate
    assert torch.allclose(joint - conditional, evidence, rtol=0, atol=1e-8)


def test_each_picture_may_have_an_observation_of_its_own():
    ys, known = PRIOR.sample(3, seed=6), HOLES["half"]
    x = torch.randn(3, 1, 1, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = Exact(PRIOR.given(ys, known), SCHEDULE)(x, 300)[0]
    for i in range(3):
        alone = Exact(PRIOR.given(ys[i : i + 1], known), SCHEDULE)(x[i : i + 1], 300)[0]
        assert torch.allclose(together[i : i + 1], alone, rtol=0, atol=1e-12)


def test_a_gaussian_hole_has_the_textbook_mean_and_covariance():
    cov, mean = smooth_cov(6), torch.arange(6, dtype=torch.float64) / 10
    known = torch.tensor([1.0, 0, 1, 1, 0, 1], dtype=torch.float64).reshape(1, 1, 1, 6)
    y = torch.tensor([0.3, 9, -0.2, 0.1, 9, 0.5], dtype=torch.float64).reshape(1, 1, 1, 6)
    got_mean, got_cov = gaussian(mean, cov).given(y, known).moments()
    precision, h, o = torch.linalg.inv(cov), [1, 4], [0, 2, 3, 5]  # by the precision matrix, where ours goes by the covariance
    cov_h = torch.linalg.inv(precision[h][:, h])
    mean_h = mean[h] - cov_h @ precision[h][:, o] @ (y.flatten()[o] - mean[o])
    assert torch.allclose(got_mean[0, h], mean_h, atol=1e-9)
    assert torch.allclose(got_cov[0][h][:, h], cov_h, atol=1e-9)
    assert torch.equal(got_mean[0, o], y.flatten()[o])
    assert got_cov[0][o].abs().max() == 0


def test_samples_have_the_mixtures_moments():
    count = 20_000
    mean, cov = PRIOR.moments()
    x = PRIOR.sample(count, seed=8).flatten(1)
    sd = cov[0].diagonal().sqrt()
    assert ((x.mean(0) - mean[0]).abs() < 4.5 * sd / count**0.5).all()  # 32 comparisons at 4.5 standard errors: 1 in 5000
    fourth = (x - mean[0]).pow(4).mean(0)
    assert ((x.var(0) - sd**2).abs() < 4.5 * ((fourth - sd**4) / count).sqrt()).all()  # var of a sample variance: (m4 - var^2) / n
    assert cov[0].diagonal().mean() + mean[0].square().mean() == pytest.approx(1, abs=1e-12)  # unit mean square


def test_the_denoiser_can_be_differentiated_and_its_slope_is_the_posterior_covariance():
    t, prior = 400, gaussian(torch.zeros(5), smooth_cov(5))
    a, sigma = SCHEDULE.a(t), SCHEDULE.sigma(t)
    jacobian = torch.autograd.functional.jacobian(lambda x: prior.posterior_mean(x[None], a, sigma)[0], torch.randn(5, dtype=torch.float64))
    covariance = torch.linalg.inv(torch.linalg.inv(prior.covs[0]) + (a / sigma) ** 2 * torch.eye(5))
    assert torch.allclose(jacobian, a / sigma**2 * covariance, atol=1e-9)


def test_sliced_w2_of_a_shift_and_of_a_scaling():
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shift = torch.tensor([0.3, -0.6, 0.6], dtype=torch.float64)
    assert sliced_w2(x, x[torch.randperm(4000, generator=torch.Generator().manual_seed(2))]) == 0
    # a shift d moves every projection by <d, u>, whose mean square is |d|^2 / 3 over all directions; 200 directions leave
    # a relative error of sqrt(4/5) / sqrt(200) / 2 = 3 % (one standard error)
    assert sliced_w2(x, x + shift) == pytest.approx(0.9 / 3**0.5, rel=0.12)
    assert sliced_w2(x, 1.5 * x) == pytest.approx(0.5, rel=0.05)  # every projection has unit variance, to 1 / sqrt(2 * 4000) = 1 %


def test_equal_strides_of_the_walk_are_equal_steps_of_appendix_a():
    levels = Walk(20, "trailing").levels(SCHEDULE)
    u = torch.arange(1, 21, dtype=torch.float64) / 20
    curve = torch.cos((u + 0.008) / 1.008 * torch.pi / 2).square().clamp(1e-5, 1 - 1e-5)
    assert torch.allclose(SCHEDULE.alpha_bar[levels[1:]], curve, atol=1e-14)
    assert SCHEDULE.alpha_bar[0] == 1
