"""How well a model of fields reconstructs held-out ones, beside kriging: error in the hole, and whether its intervals hold.

    python recipes/score_fields.py runs/grf-32/model runs/fields/grf --fields 200 --samples 32

Fields told measurements (low resolution, corrupted, projected) stand beside the best linear reconstruction, which for Gaussian fields
is exact. The interval is between the 5 % and 95 % quantiles of the samples (at rank p (K + 1), which holds a fresh draw of the same
distribution with probability 0.9 for any K >= 19). Kriging's rows are those of `python -m inpaintkit.evaluate.kriging DATA`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from fields import Args as Made
from fields import measured
from numpy.typing import NDArray
from scipy.linalg import pinvh, solve

from inpaintkit.apps.cli.options import Chosen
from inpaintkit.core.errors import BadInput
from inpaintkit.core.settings import checked
from inpaintkit.data.arrays import Arrays, read
from inpaintkit.evaluate.kriging import Covariance, Kriged, empirical_matrix, rows, scored
from inpaintkit.pipeline.measurements import Measurements
from inpaintkit.pipeline.science import Reconstructor


@dataclass(frozen=True)
class Args:
    """Score a model of fields on the test fields of a data set."""

    model: tyro.conf.Positional[str]
    data: tyro.conf.Positional[Path]
    """Folder that recipes/fields.py wrote."""
    fields: int = 200
    """Test fields, the first ones."""
    samples: Annotated[int, tyro.conf.arg(help="of each field; at least 19")] = 32
    guidance: float = 1.0
    seed: int = 0
    dtype: str = "auto"
    method: Chosen = None


def linear(cond: NDArray, measure: dict, matrix: NDArray, mean: float) -> Kriged:
    """The best linear reconstruction of fields with this mean and covariance `(n, n)` from what was measured; for Gaussian ones the
    posterior. cond (N, H, W, C') as recipes/fields.py writes it, which also says what was measured: it measures the unit fields.
    """
    count, shape = len(cond), cond.shape[1:3]
    n = shape[0] * shape[1]
    if measure["kind"] == "corrupted":  # another operator for each field: the points that are there
        values, there = cond[..., 0].reshape(count, n).astype(float), cond[..., 1].reshape(count, n) > 0.5
        parts = [
            posterior(np.eye(n)[:, seen], measure["noise"], matrix, mean, y[None, seen]) for y, seen in zip(values, there, strict=True)
        ]
        means, variances = (np.concatenate(part) for part in zip(*parts, strict=True))
    else:
        units = np.eye(n, dtype=np.float32).reshape(n, *shape)
        every = measured(units, Made("grf", Path(), measure=measure["kind"]), np.random.default_rng(0))[0].reshape(n, -1)
        operator, first = np.unique(every.astype(float), axis=1, return_index=True)  # without what is told twice
        means, variances = posterior(operator, 0.0, matrix, mean, cond.reshape(count, -1)[:, first].astype(float))
    return Kriged(means.reshape(count, *shape), variances.clip(min=0).reshape(count, *shape))


def posterior(operator: NDArray, noise: float, matrix: NDArray, mean: float, y: NDArray) -> tuple[NDArray, NDArray]:
    """Means and variances `(N, n)` of x with this mean and covariance C `(n, n)` given y = H x + noise `(N, m)`: mean + G (y - H mean) and
    the diagonal of C - G H C with G = C H' (H C H' + noise^2)^-1 (Kay 1993, Estimation Theory, theorem 10.3). operator: H' `(n, m)`.
    """
    across = matrix @ operator
    of_y = operator.T @ across + noise**2 * np.eye(operator.shape[1])
    gain = solve(of_y, across.T, assume_a="pos").T if noise else across @ pinvh(of_y)  # means of rows and of columns tell one thing twice
    means = mean + (y - mean * operator.sum(0)) @ gain.T
    return means, np.broadcast_to(matrix.diagonal() - (gain * across).sum(1), means.shape)


def baselines(arrays: Arrays, train: Arrays, truth: NDArray, which: NDArray) -> dict[str, Kriged]:
    """What stands beside the network: of fields (N, H, W) told single values kriging, of others the best linear reconstruction."""
    if arrays.hole is not None:
        return rows(arrays, train, truth, arrays.hole[which].astype(bool))
    if "measure" not in arrays.about or arrays.target is None:  # not of recipes/fields.py: what was measured is not known here
        return {}
    dense, (measure, cond) = arrays.target[train.index, ..., 0], (arrays.about["measure"], arrays.cond[which])
    mean, empirical = empirical_matrix(dense)
    flat = np.full(truth.shape, mean), np.full(truth.shape, dense.var(dtype=np.float64))
    found = {"the mean of the training fields": Kriged(*flat)}
    if stated := arrays.about.get("covariance"):
        matrix = checked(Covariance, stated).matrix(truth.shape[1:])
        found["exact, from the stated covariance"] = linear(cond, measure, matrix, arrays.scale.mean[0])
    return found | {"linear, covariance of the training fields": linear(cond, measure, empirical, mean)}


def main(args: Args) -> None:
    arrays = read(args.data)
    train, _, test = arrays.split()
    which = test.index[: args.fields]
    if arrays.target is None or not len(which) or args.samples < 19:
        raise BadInput(f"{args.data}: needs targets, test fields and at least 19 samples of each")
    model = Reconstructor.from_pretrained(args.model, dtype=args.dtype)
    truth = arrays.target[which]
    holes = np.ones(truth.shape[:3], bool) if arrays.hole is None else arrays.hole[which].astype(bool)
    cond = arrays.cond[which] if model.config.condition == "measurements" else None
    given = Measurements(str(args.data), truth, ~holes, cond, (True, True))
    made, record = model(given, args.method, args.seed, args.samples, args.guidance)
    low, high = np.quantile(made.samples.astype(np.float64), (0.05, 0.95), axis=0, method="weibull")
    units = arrays.about.get("units", "")
    print(f"{args.data}: {len(which)} test fields, {holes.mean():.1%} of the points are hole; errors in {units}")
    about = f"{record['method']['class']}, {record['nfe']} evaluations, {args.samples} samples, w = {args.guidance:g}"
    print(f"  {args.model} ({about}; {record['seconds_total'] / len(which) / args.samples:.3f} s a sample):")
    for c in range(truth.shape[3]):
        score = scored(truth[..., c], holes, made.mean[..., c].astype(np.float64), (low[..., c], high[..., c]))
        one = scored(truth[..., c], holes, made.samples[0, ..., c].astype(np.float64), (low[..., c], high[..., c]))
        print(f"    channel {c}: mean of the samples {score}; one sample RMSE {one.rmse:.4f}")
    if truth.shape[3] == 1:
        for row, kriged in baselines(arrays, train, truth[..., 0], which).items():
            print(f"  {row}: {scored(truth[..., 0], holes, kriged.mean, kriged.interval())}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
