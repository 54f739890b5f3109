"""How well a model of fields reconstructs held-out ones, beside kriging: error in the hole, and whether its intervals hold.

    python recipes/score_fields.py runs/grf-32/model runs/fields/grf --fields 200 --samples 32

The interval is between the 5 % and 95 % quantiles of the samples (at rank p (K + 1), which holds a fresh draw of the same
distribution with probability 0.9 for any K >= 19). Kriging's rows are those of `python -m inpaintkit.evaluate.kriging DATA`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from inpaintkit.apps.cli.options import Chosen
from inpaintkit.core.errors import BadInput
from inpaintkit.data.arrays import read
from inpaintkit.evaluate.kriging import rows, scored
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
    if arrays.hole is not None and truth.shape[3] == 1:
        for row, kriged in rows(arrays, train, truth[..., 0], holes).items():
            print(f"  {row}: {scored(truth[..., 0], holes, kriged.mean, kriged.interval())}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
