"""Kriging against dense linear algebra written down anew, and against what it promises: its intervals hold what they say."""

import numpy as np
import pytest

from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import checked
from inpaintkit.evaluate.kriging import CORRELATIONS, Covariance, empirical_matrix, fit_covariance, krige, posterior, scored, variogram

SIZE, MEAN = (9, 7), 3.0
COVARIANCE = Covariance("matern32", 3.0, 2.0, 0.01)
MATRIX = COVARIANCE.matrix(SIZE)


def drawn(count: int, seed: int = 0, covariance: Covariance = COVARIANCE, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(
        np.full(size[0] * size[1], MEAN), covariance.matrix(size), count, method="cholesky"
    ).reshape(count, *size)  # fmt: skip


def holes(count: int, share: float = 0.8, seed: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    found = np.random.default_rng(seed).random((count, *size)) < share
    found[:, 2, 3], found[:, 4, 4] = False, True
    return found


def by_hand(field: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The conditional of a joint Gaussian, from the precision of the whole: var = inv(P_hh), mean = m - inv(P_hh) P_hs (y - m)."""
    precision = np.linalg.inv(MATRIX)
    h, s = hole.ravel(), ~hole.ravel()
    cov = np.linalg.inv(precision[h][:, h])
    return MEAN - cov @ precision[h][:, s] @ (field[~hole] - MEAN), cov


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_a_covariance_is_symmetric_positive_and_as_stated_at_a_distance(kind):
    covariance = Covariance(kind, 2.0, 3.0, 0.5)
    matrix = covariance.matrix((5, 4))
    assert np.array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0
    assert np.allclose(matrix.diagonal(), 3.5)
    assert covariance.std == pytest.approx(np.sqrt(3.5))
    r = np.hypot(3, 2) / 2  # from point (0, 0) to (3, 2), number 3 * 4 + 2
    wanted = {"squared-exponential": np.exp(-r * r / 2), "exponential": np.exp(-r), "matern32": (1 + 3**0.5 * r) * np.exp(-(3**0.5) * r)}
    assert matrix[0, 14] == pytest.approx(3 * wanted[kind])


def test_bounds_of_a_covariance_are_checked():
    for wrong in ({"length": 0}, {"variance": -1}, {"nugget": -1e-9}, {"kind": "cubic"}, {"sill": 1}):
        with pytest.raises(UsageError):
            checked(Covariance, wrong)


def test_simple_kriging_is_the_conditional_of_the_joint_gaussian():
    fields, hole = drawn(5), holes(5)
    got = krige(fields, hole, MATRIX, MEAN)
    for i in range(5):
        mean, cov = by_hand(fields[i], hole[i])
        assert np.allclose(got.mean[i][hole[i]], mean, rtol=0, atol=1e-10)
        assert np.allclose(got.variance[i][hole[i]], cov.diagonal(), rtol=0, atol=1e-10)
        assert np.array_equal(got.mean[i][~hole[i]], fields[i][~hole[i]])
        assert (got.variance[i][~hole[i]] == 0).all()


def test_what_stands_in_the_hole_is_never_read():
    fields, hole = drawn(3), holes(3)
    got, hidden = krige(fields, hole, MATRIX), krige(np.where(hole, np.nan, fields), hole, MATRIX)
    assert np.array_equal(got.mean, hidden.mean)


def test_ordinary_kriging_solves_the_lagrange_system():
    """Cressie 1993, eq. 3.2.5-3.2.8: weights that sum to 1, from the system bordered by ones; the multiplier is in the variance."""
    field, hole = drawn(1)[0], holes(1)[0]
    got = krige(field[None], hole[None], MATRIX)
    s, h = ~hole.ravel(), hole.ravel()
    bordered = np.ones((s.sum() + 1, s.sum() + 1))
    bordered[:-1, :-1], bordered[-1, -1] = MATRIX[s][:, s], 0
    right = np.vstack([MATRIX[s][:, h], np.ones(h.sum())])
    solved = np.linalg.solve(bordered, right)
    assert np.allclose(solved[:-1].sum(0), 1)
    assert np.allclose(got.mean[0][hole], solved[:-1].T @ field[~hole], rtol=0, atol=1e-10)
    assert np.allclose(got.variance[0][hole], MATRIX[0, 0] - (solved * right).sum(0), rtol=0, atol=1e-10)


def test_ordinary_kriging_follows_a_shift_and_is_less_sure():
    fields, hole = drawn(4), holes(4)
    simple, ordinary, shifted = (krige(f, hole, MATRIX, m) for f, m in ((fields, MEAN), (fields, None), (fields + 100, None)))
    assert np.allclose(shifted.mean, ordinary.mean + 100, atol=1e-9)
    assert (ordinary.variance[hole] > simple.variance[hole]).all()


def test_nothing_measured_is_refused_and_nothing_to_fill_gives_the_field_back():
    fields = drawn(1)
    with pytest.raises(ValueError, match="nothing of the field is measured"):
        krige(fields, np.ones((1, *SIZE), bool), MATRIX, MEAN)
    whole = krige(fields, np.zeros((1, *SIZE), bool), MATRIX, MEAN)
    assert np.array_equal(whole.mean, fields)
    assert (whole.variance == 0).all()


def test_posterior_draws_have_the_exact_mean_and_covariance_and_keep_the_measured_values():
    field, hole, count = drawn(1)[0], holes(1, 0.5)[0], 20_000
    draws = posterior(field, hole, MATRIX, MEAN, count, np.random.default_rng(3))
    assert (draws[:, ~hole] == field[~hole]).all()
    mean, cov = by_hand(field, hole)
    got = draws[:, hole]
    variances = cov.diagonal()
    # standard errors: sqrt(v / n) of a mean, sqrt((v_i v_j + c_ij^2) / n) of a covariance; 5 of them hold for some 1000 entries
    assert (abs(got.mean(0) - mean) < 5 * np.sqrt(variances / count)).all()
    assert (abs(np.cov(got.T) - cov) < 5 * np.sqrt((np.outer(variances, variances) + cov**2) / count)).all()


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_hold_as_many_values_as_they_say_and_the_variance_is_the_square_error(level):
    count = 2000
    fields, hole = drawn(count, seed=5), holes(count, seed=6)
    got = krige(fields, hole, MATRIX, MEAN)
    low, high = got.interval(level)
    inside = ((low <= fields) & (fields <= high))[hole].mean()
    per_field = np.array([((low <= fields) & (fields <= high))[i][hole[i]].mean() for i in range(count)])
    assert abs(inside - level) < 4 * per_field.std() / np.sqrt(count)  # pixels of a field hang together, fields do not
    square = (((fields - got.mean) ** 2 - got.variance) * hole).sum((1, 2))
    assert abs(square.mean()) < 4 * square.std() / np.sqrt(count)


def test_intervals_of_a_wrong_covariance_do_not():
    fields, hole = drawn(500, seed=5), holes(500, seed=6)
    got = krige(fields, hole, Covariance("matern32", 9.0, 2.0, 0.01).matrix(SIZE), MEAN)
    low, high = got.interval()
    assert ((low <= fields) & (fields <= high))[hole].mean() < 0.8


def test_the_variogram_is_the_one_of_the_covariance():
    fields = drawn(4000, seed=8)
    distance, found, pairs = variogram(fields)
    assert len(distance) == 14  # lags up to 7 // 2 = 3, one of each pair of opposite directions: (29 - 1) / 2
    wanted = COVARIANCE.variance + COVARIANCE.nugget - COVARIANCE.at(distance)
    assert (pairs == 4000 * np.round(pairs / 4000)).all()
    # a squared difference has the relative deviation sqrt 2; within a field they may hang together entirely, fields do not
    assert (abs(found / wanted - 1) < 4 * np.sqrt(2 / 4000)).all()


@pytest.mark.parametrize("kind", ["matern32", "exponential"])
def test_a_covariance_is_found_again_from_fields(kind):
    truth = Covariance(kind, 4.0, 2.0, 0.02)
    found = fit_covariance(drawn(1500, seed=9, covariance=truth, size=(20, 20)))
    assert found.kind == kind
    assert found.length == pytest.approx(4, rel=0.1)
    assert found.variance == pytest.approx(2, rel=0.1)


def test_the_empirical_covariance_comes_near_the_true_one():
    count = 20_000
    mean, matrix = empirical_matrix(drawn(count, seed=10))
    error = np.sqrt((MATRIX[0, 0] ** 2 + MATRIX**2) / count)
    assert abs(mean - MEAN) < 4 * np.sqrt(MATRIX.mean() / count)
    assert (abs(matrix - MATRIX) < 5 * error).all()  # some 2000 entries


def test_a_score_counts_hole_pixels_only_and_all_alike():
    truth, hole = np.zeros((2, 2, 2)), np.array([[[1, 0], [0, 0]], [[1, 1], [1, 0]]], bool)
    mean = np.array([[[2.0, 9], [9, 9]], [[1, 1], [0, 9]]])
    got = scored(truth, hole, mean, (mean - 1.5, mean + 1.5))
    assert got.rmse == pytest.approx(np.sqrt((4 + 1 + 1 + 0) / 4))
    assert got.coverage == pytest.approx(3 / 4)


def test_the_error_of_a_score_is_how_much_it_varies():
    fields, hole = drawn(4000, seed=11), holes(4000, seed=12)
    got = krige(fields, hole, MATRIX, MEAN)
    low, high = got.interval()
    parts = [scored(fields[k::40], hole[k::40], got.mean[k::40], (low[k::40], high[k::40])) for k in range(40)]
    for value, half in (("rmse", "error"), ("coverage", "spread")):
        seen, said = np.std([getattr(p, value) for p in parts]), np.mean([getattr(p, half) for p in parts]) / 1.96
        assert abs(seen / said - 1) < 4 / np.sqrt(2 * 40)  # relative error of a standard deviation of 40
