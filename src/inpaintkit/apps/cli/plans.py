"""`inpaintkit fill --plan`: what would be computed, without computing it."""

import json

import numpy as np

from inpaintkit.core.sampler import Method
from inpaintkit.data.images import Picture
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options
from inpaintkit.pipeline.plans import plan


def show(
    pipe: Inpainter, picture: Picture, hole: np.ndarray, method: Method, options: Options, variants: int, tune: int, as_json: bool
) -> None:
    found = plan(pipe, picture, hole, method, options, variants)
    if tune:
        from inpaintkit.train import tuning

        found["tuning_seconds"] = round(tuning.seconds(pipe, tune), 2)
    if as_json:
        print(json.dumps(found))
        return
    for region in found["regions"]:
        x0, y0, x1, y1 = region["box"]
        print(f"region {x1 - x0}x{y1 - y0} at {x0},{y0}")
        for level in region["levels"]:
            w, h = level["window_size"]
            print(f"  at 1/{level['scale']} size: {level['windows']} windows of {w}x{h}, {level['evaluations']} evaluations")
    if tune:
        print(f"{tune} steps of tuning, about {found['tuning_seconds']:.0f} s")
    calls, seconds = found["evaluations"], found["seconds"]
    print(f"{calls} evaluations of the network for each of {variants} variants, about {seconds:.1f} s in all ({method})")
