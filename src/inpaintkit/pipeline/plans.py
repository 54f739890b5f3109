"""What a fill would compute, without computing it."""

from typing import Any

import numpy as np

from inpaintkit.core.sampler import Method
from inpaintkit.core.walk import moves_down
from inpaintkit.data.images import Picture, known_from_hole
from inpaintkit.pipeline import regions
from inpaintkit.pipeline.fill import Inpainter, grown, referred
from inpaintkit.pipeline.job import Options, refined


def plan(pipe: Inpainter, picture: Picture, hole: np.ndarray, method: Method, options: Options, variants: int) -> dict[str, Any]:
    """Regions with their scales and windows, and network calls per picture: one per window, move down and region."""
    hole = grown(hole, options.grow) if options.grow else hole
    schedule, largest = pipe.denoiser.schedule, pipe.model.network.config.largest
    planned, total = [], 0
    for region in pipe.plan(hole, options, method, referred(picture, hole, method)):
        known = known_from_hole(regions.cut(hole, region.box, True))
        levels = []
        for scale in region.scales:
            corners, size = regions.windows(regions.reduced(known, known, scale)[1], largest)
            at = method if scale == region.scales[0] else refined(method, options.refine)
            evaluations = moves_down(at.walk.times(schedule))
            total += evaluations * len(corners)
            levels.append({"scale": scale, "windows": len(corners), "window_size": size[::-1], "evaluations": evaluations * len(corners)})
        planned.append({"box": list(region.box), "levels": levels})
    about = {"method": type(method).__name__, "variants": variants, "hole_fraction": float(hole.mean())}
    return {**about, "evaluations": total, "regions": planned}
