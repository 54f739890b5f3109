"""Kriging: the exact posterior of a Gaussian field given single exact values, and the best linear guess for any other field.

A field is `(H, W)` on a grid of unit spacing, in its own units; n = H W. A hole is bool `(H, W)`, True = not measured.

    python -m inpaintkit.evaluate.kriging runs/fields/grf          the table of a data set of recipes/fields.py

Sources: Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006 (RW); Cressie, Statistics for Spatial Data, 1993.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import least_squares
from scipy.special import ndtri

from inpaintkit.core.errors import BadInput
from inpaintkit.core.settings import Settings, checked
from inpaintkit.data.arrays import Arrays, read

Values = NDArray[np.float64]
Hole = NDArray[np.bool_]
Kind = Literal["squared-exponential", "matern32", "exponential"]
Length = Annotated[float, Field(gt=0)]

CORRELATIONS: dict[Kind, Callable[[Values], Values]] = {
    "squared-exponential": lambda r: np.exp(-(r**2) / 2),
    "matern32": lambda r: (1 + sqrt(3) * r) * np.exp(-sqrt(3) * r),
    "exponential": lambda r: np.exp(-r),
}
"""Correlation at a distance in lengths (RW eq. 4.9, 4.17 and, for Matern 1/2, p. 85)."""


@dataclass(frozen=True)
class Covariance(Settings):
    """A stationary isotropic covariance: `variance * correlation(distance / length)`, and `nugget` more at distance 0."""

    kind: Kind = "matern32"
    length: Length = 6.0
    """In grid points."""
    variance: Length = 1.0
    """In squared units of the field, without the nugget."""
    nugget: Annotated[float, Field(ge=0)] = 0.001
    """Variance of the part that no neighbour knows of, in squared units. It belongs to the field: a measured value holds it."""

    @property
    def std(self) -> float:
        """Standard deviation of the field at one point."""
        return sqrt(self.variance + self.nugget)

    def at(self, distance: Values) -> Values:
        """Covariance at distances `(...)` in grid points."""
        return self.variance * CORRELATIONS[self.kind](distance / self.length) + self.nugget * (distance == 0)

    def matrix(self, size: tuple[int, int]) -> Values:
        """`(n, n)`: covariance of every two points of a field `(H, W)`, row by row."""
        points = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij"), -1).reshape(-1, 2)
        return self.at(np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)))


@dataclass(frozen=True)
class Kriged:
    """What is said of the unmeasured points; at a measured one the value itself, with variance 0."""

    mean: Values
    """(N, H, W)."""
    variance: Values
    """(N, H, W), squared units."""

    def interval(self, level: float = 0.9) -> tuple[Values, Values]:
        """Lower and upper end `(N, H, W)` of the central interval that holds the value with probability `level`, if Gaussian."""
        reach = ndtri((1 + level) / 2) * np.sqrt(self.variance)
        return self.mean - reach, self.mean + reach


def krige(values: NDArray, holes: Hole, matrix: Values, mean: float | None = None) -> Kriged:
    """Simple kriging with the known `mean`, or ordinary kriging (mean unknown, estimated from the same points) with None.

    `values` (N, H, W) is read where `holes` (N, H, W) is False; `matrix` (n, n) as `Covariance.matrix` makes it. For a
    Gaussian field with this mean and covariance, simple kriging is the exact posterior (RW eq. 2.23-2.24 and algorithm
    2.1); for other fields the linear predictor with the least expected squared error. Ordinary kriging adds the variance
    of the estimated mean (Cressie 1993, eq. 3.2.13-3.2.16). Raises `ValueError` for a field of which nothing is measured.
    """
    means, variances = np.empty(values.shape), np.zeros(values.shape)
    for i, (field, hole) in enumerate(zip(values, holes, strict=True)):
        seen, free = _points(hole)
        root, gain = _solved(matrix, seen, free)
        y, ones = (solve_triangular(root, v, lower=True) for v in (field[~hole].astype(float), np.ones(len(seen))))
        centre = mean if mean is not None else (ones @ y) / (ones @ ones)  # generalised least squares
        variance = matrix[free, free] - (gain**2).sum(0)
        if mean is None:
            variance += (1 - ones @ gain) ** 2 / (ones @ ones)
        means[i] = field
        means[i][hole] = centre + (y - centre * ones) @ gain
        variances[i][hole] = variance.clip(min=0)
    return Kriged(means, variances)


def posterior(field: NDArray, hole: Hole, matrix: Values, mean: float, count: int, rng: np.random.Generator) -> Values:
    """`(count, H, W)` exact draws of a Gaussian field `(H, W)` given its values outside the hole.

    A draw of the prior, moved by the kriged difference between the values and the draw (conditioning by kriging: Journel &
    Huijbregts 1978, section VII.A). Raises `ValueError` as `krige`.
    """
    seen, free = _points(hole)
    root, gain = _solved(matrix, seen, free)
    draws = mean + rng.standard_normal((count, len(matrix))) @ cholesky(matrix, lower=True).T
    surprise = solve_triangular(root, (field[~hole] - draws[:, seen]).T, lower=True)
    draws[:, free] += surprise.T @ gain
    draws[:, seen] = field[~hole]
    return draws.reshape(count, *field.shape)


def _points(hole: Hole) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row-by-row numbers of the measured and of the unmeasured points."""
    seen, free = np.flatnonzero(~hole), np.flatnonzero(hole)
    if not len(seen):
        raise ValueError("nothing of the field is measured")
    return seen, free


def _solved(matrix: Values, seen: NDArray[np.intp], free: NDArray[np.intp]) -> tuple[Values, Values]:
    """L `(m, m)` with L L' the covariance of the measured points, and L^-1 times that with the unmeasured ones `(m, n - m)`."""
    root = cholesky(matrix[np.ix_(seen, seen)], lower=True)
    return root, solve_triangular(root, matrix[np.ix_(seen, free)], lower=True)


def variogram(fields: NDArray) -> tuple[Values, Values, Values]:
    """(distance, half the mean squared difference, number of pairs), each `(lags,)`, of dense fields `(N, H, W)`.

    Every lag up to half the shorter side (Cressie 1993, eq. 2.4.2; beyond that few pairs are left).
    """
    reach = min(fields.shape[1:]) // 2
    found = []
    for down in range(reach + 1):
        for right in range(-reach, reach + 1):
            distance = float(np.hypot(down, right))
            if distance > reach or (down == 0 and right <= 0):
                continue
            one, other = fields[:, down:, max(right, 0) :], fields[:, : fields.shape[1] - down, max(-right, 0) :]
            width = fields.shape[2] - abs(right)
            difference = one[..., :width] - other[..., :width]
            found.append((distance, 0.5 * float(np.mean(difference**2, dtype=np.float64)), difference.size))
    distance, half, pairs = np.array(found).T
    return distance, half, pairs


def fit_covariance(fields: NDArray) -> Covariance:
    """The covariance of `CORRELATIONS` whose variogram is nearest to that of dense fields `(N, H, W)`.

    Weighted least squares, pairs * (found / model - 1)^2 (Cressie 1993, eq. 2.6.12).
    """
    distance, found, pairs = variogram(fields)

    def made(kind: Kind, log: Values) -> Covariance:
        length, variance, share = np.exp(log)
        return Covariance(kind, float(length), float(variance), float(variance * share))

    def misfit(log: Values, kind: Kind) -> Values:
        model = made(kind, log)
        return np.sqrt(pairs / pairs.mean()) * (found / (model.variance + model.nugget - model.at(distance)) - 1)

    start, sill = min(fields.shape[1:]) / 4, float(found.max())
    # a nugget of at least a millionth keeps the matrix positive in float64; lengths stay within what the lags can tell
    bounds = np.log([(start / 50, sill / 50, 1e-6), (start * 50, sill * 50, 1.0)])
    fits = [(kind, least_squares(misfit, np.log([start, sill, 1e-3]), bounds=bounds, args=(kind,))) for kind in CORRELATIONS]
    kind, best = min(fits, key=lambda pair: pair[1].cost)
    return made(kind, best.x)


def empirical_matrix(fields: NDArray) -> tuple[float, Values]:
    """(mean, covariance `(n, n)`) of dense fields `(N, H, W)` about one common mean, with no model of it.

    With many more fields than points, kriging with it is the best linear predictor there is for fields of this kind.
    """
    mean = float(np.mean(fields, dtype=np.float64))
    apart = fields.reshape(len(fields), -1).astype(np.float64) - mean
    matrix = apart.T @ apart / len(fields)
    return mean, matrix + 1e-6 * matrix.trace() / len(matrix) * np.eye(len(matrix))


@dataclass(frozen=True)
class Score:
    """How good a prediction is on the hole pixels of many fields; `error` and `spread` are half 95 % intervals over fields."""

    rmse: float
    """Root mean square error, units of the field."""
    error: float
    coverage: float
    """Share of hole pixels inside the 90 % interval."""
    spread: float

    def __str__(self) -> str:
        return f"RMSE {self.rmse:.4f} ± {self.error:.4f}, 90 % intervals hold {self.coverage:.1%} ± {self.spread:.1%}"


def scored(truth: NDArray, holes: Hole, mean: NDArray, interval: tuple[NDArray, NDArray]) -> Score:
    """`Score` of predictions (N, H, W) and their intervals. Pixels count alike; fields are the independent units of the ± figures."""
    weight = holes.sum((1, 2)) / holes.sum()
    square = (np.where(holes, truth - mean, 0) ** 2).sum((1, 2)) / holes.sum((1, 2))
    inside = (holes & (interval[0] <= truth) & (truth <= interval[1])).sum((1, 2)) / holes.sum((1, 2))
    rmse, coverage = sqrt(weight @ square), float(weight @ inside)
    half = [1.96 * sqrt((weight**2) @ (per_field - weight @ per_field) ** 2) for per_field in (square, inside)]
    return Score(rmse, half[0] / (2 * rmse), coverage, half[1])  # the delta method: d sqrt(v) = dv / (2 sqrt(v))


@dataclass(frozen=True)
class Table:
    """Which data set to krige, and how many of its test fields."""

    data: Annotated[Path, tyro.conf.Positional]
    """Folder that recipes/fields.py wrote with --measure sparse."""
    fields: int = 500


def rows(arrays: Arrays, train: Arrays, truth: NDArray, holes: Hole) -> dict[str, Kriged]:
    """Kriging of fields (N, H, W) in several ways, what is fitted coming from the training part; and no reconstruction at all."""
    assert arrays.target is not None
    dense, size = arrays.target[train.index, ..., 0], truth.shape[1:]
    fitted, (mean, empirical) = fit_covariance(dense[:2000]), empirical_matrix(dense)
    flat = np.full(truth.shape, mean), np.full(truth.shape, dense.var(dtype=np.float64))
    found = {"the mean of the training fields": Kriged(*flat)}
    if stated := arrays.about.get("covariance"):
        found[f"simple kriging, stated {stated}"] = krige(truth, holes, checked(Covariance, stated).matrix(size), arrays.scale.mean[0])
    found[f"ordinary kriging, fitted {fitted}"] = krige(truth, holes, fitted.matrix(size))
    return found | {"simple kriging, covariance of the training fields": krige(truth, holes, empirical, mean)}


def main(args: Table) -> None:
    """Print the scores of kriging on the first test fields."""
    arrays = read(args.data)
    if arrays.target is None or arrays.hole is None or arrays.channels[0] != 1:
        raise BadInput(f"{args.data}: kriging takes one channel with a mask of the points measured; write it with --measure sparse")
    train, _, test = arrays.split()
    which = test.index[: args.fields]
    truth, holes = arrays.target[which, ..., 0], arrays.hole[which].astype(bool)
    print(f"{args.data}: {len(which)} test fields, {holes.mean():.1%} of the points are hole; errors in {arrays.about.get('units')}")
    for row, kriged in rows(arrays, train, truth, holes).items():
        print(f"  {row}: {scored(truth, holes, kriged.mean, kriged.interval())}")


if __name__ == "__main__":
    main(tyro.cli(Table))
