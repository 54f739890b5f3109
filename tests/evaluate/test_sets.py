"""Distances between sets of pictures, against torchmetrics 1.9.0 and with what is known exactly."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from inpaintkit.core.errors import UsageError
from inpaintkit.evaluate import sets


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ np.random.default_rng(9).standard_normal((d, d)) / np.sqrt(d) + shift


def by_torchmetrics(real: np.ndarray, fake: np.ndarray) -> float:
    """Its Frechet distance in float64, of features that pass through."""
    identity = nn.Identity()
    identity.num_features = real.shape[1]
    metric = FrechetInceptionDistance(feature=identity).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    return float(metric.compute())


@pytest.mark.parametrize(("n", "d"), [(60, 8), (9, 20), (20, 20)])
def test_frechet_agrees_with_torchmetrics(n, d):
    """Also with fewer pictures than features, where it takes roots of eigenvalues that are 0 but for rounding: sqrt(1e-16) each."""
    real, fake = features(n, d, 0), features(n + 3, d, 1, 0.5)
    assert sets.frechet(real, fake) == pytest.approx(by_torchmetrics(real, fake), abs=1e-6 * d)
    assert sets.frechet(real, real) == pytest.approx(0, abs=1e-9)


def test_frechet_of_known_gaussians():
    """Same covariance: the squared distance of the means. Same mean, one scaled by 3: (3 - 1)^2 times the trace."""
    real = features(50, 4, 0)
    centred = real - real.mean(0)
    trace = np.square(centred).sum() / 49
    assert sets.frechet(real, real + np.array([3, 4, 0, 0])) == pytest.approx(25)
    assert sets.frechet(centred, 3 * centred) == pytest.approx(4 * trace)
    assert math.isnan(sets.frechet(real[:1], real))


def test_fid_is_refused_below_2000_pictures():
    real = features(2000, 3, 0)
    assert sets.fid(real, real + 1) == pytest.approx(3)
    with pytest.raises(UsageError, match=r"fid: 1999 pictures, .* use kid"):
        sets.fid(real, real[:-1])


def test_kernel_agrees_with_torchmetrics_but_for_the_pairs(monkeypatch):
    """Theirs holds every picture's comparison with what was made from it: put in here, the number is theirs."""
    monkeypatch.setattr(sets, "BLOCK", 7)
    real, fake = features(30, 6, 0), features(30, 6, 1, 0.3)
    cross = (real @ fake.T / 6 + 1) ** 3
    ours = sets.kernel(real, fake)[0] + 2 * (cross.sum() - np.trace(cross)) / (30 * 29) - 2 * cross.mean()
    assert ours == pytest.approx(float(poly_mmd(torch.from_numpy(real), torch.from_numpy(fake))), rel=1e-9)


def test_the_jackknife_is_that_of_leaving_pairs_out():
    real, fake = features(12, 3, 0), features(12, 3, 1, 0.3)
    value, low, high = sets.kernel(real, fake)
    left = [sets.kernel(np.delete(real, i, 0), np.delete(fake, i, 0))[0] for i in range(12)]
    error = math.sqrt(11 / 12 * np.square(np.array(left) - np.mean(left)).sum())
    assert (low, high) == pytest.approx((value - 1.96 * error, value + 1.96 * error))


def test_kernel_is_unbiased_for_pairs_and_its_interval_holds_the_truth():
    """Results that are their truths and some noise: over 200 sets of 40 the mean estimate is the value for endless sets (found with
    2000) within 4 standard errors, and about 95 % of the intervals hold it (4 standard errors of 200 are 6 %)."""

    def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        real = rng.standard_normal((n, 3))
        return real, real + 0.5 * rng.standard_normal((n, 3)) + 0.6

    truth = sets.kernel(*draw(2000, 999))[0]
    found = np.array([sets.kernel(*draw(40, seed)) for seed in range(200)])
    assert abs(found[:, 0].mean() - truth) < 4 * found[:, 0].std() / math.sqrt(200) + 0.02 * truth
    assert 0.87 <= np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])) <= 0.995


def test_kernel_needs_pairs():
    assert all(map(math.isnan, sets.kernel(features(2, 3, 0), features(2, 3, 1))))
    with pytest.raises(ValueError, match="30 real and 29 fake"):
        sets.kernel(features(30, 3, 0), features(29, 3, 1))
