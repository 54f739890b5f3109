"""Repair without being told where the damage is: a mask predictor finds it, or the model makes a picture that resembles the damaged one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from inpaintkit.core.errors import UsageError
from inpaintkit.core.sampler import Method
from inpaintkit.data.images import Hole, Picture
from inpaintkit.methods import METHODS
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.models.damage import Detector
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options, Step
from inpaintkit.pipeline.measured import reference


def find(detector: Detector, picture: Picture, threshold: float | None = None) -> Hole:
    """Where a picture is damaged: bool (H, W), True where the detector gives it more than `threshold` (in (0, 1); its own
    unless given), and where values are missing (NaN). Grow it before filling: a soft rim is damage too."""
    likelihood = detector.likelihood(lambda *box: picture.region(box), picture.size)
    limit = detector.network.config.threshold if threshold is None else threshold
    return np.asarray((likelihood > limit) | picture.missing)


def doubts(hole: Hole) -> tuple[str, ...]:
    """A note when more than half of a picture was found damaged."""
    share = float(hole.mean())
    if share <= 0.5:
        return ()
    return (f"{share:.0%} of the picture was found damaged; look at --mask-out, and raise --threshold if that is too much",)


def blind(
    pipe: Inpainter,
    picture: Picture,
    hole: Hole | None = None,
    method: Method | None = None,
    seed: int = 0,
    variants: int = 1,
    options: Options | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> tuple[list[Picture], dict[str, Any]]:
    """ILVR on the damaged picture (the ILVR report's blind inpainting); (repaired pictures, record).

    With a hole `(H, W)` bool only that is pasted, and only its surroundings are computed. Without one the whole picture is
    the model's: what is finer than ILVR's `factor` is made up everywhere, and no pixel stays as it was. Either way the
    damage pulls on the result, by its mean over `factor` pixels, until the walk reaches `range_t`. Raises `UsageError`
    for a method other than ilvr, and as `Inpainter.fill`.
    """
    check(method)
    everywhere = np.ones(picture.size[::-1], bool) if hole is None else hole
    results, record = pipe.fill(picture, everywhere, method or METHODS["ilvr"], seed, variants, options, on_step, reference(picture))
    return results, {**record, "pasted": "all" if hole is None else "hole"}


def check(method: Method | None) -> None:
    """Raise `UsageError` for a method that is not ilvr."""
    if method is not None and not isinstance(method, ILVR):
        raise UsageError(f"{type(method).__name__}: has to know the hole; use it with `fill`, blind repair is done by ilvr")
