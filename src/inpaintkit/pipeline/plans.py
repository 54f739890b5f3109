"""What a fill would compute, and how long that takes, without computing it."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch

from inpaintkit.core.sampler import Method
from inpaintkit.core.walk import moves_down
from inpaintkit.data.images import Picture, known_from_hole
from inpaintkit.methods.gradient import GradientMethod
from inpaintkit.models.unet import channels, classes
from inpaintkit.pipeline import regions
from inpaintkit.pipeline.fill import Inpainter, grown, referred
from inpaintkit.pipeline.job import Options, refined
from inpaintkit.pipeline.measured import Measured


def plan(
    pipe: Inpainter,
    picture: Picture,
    hole: np.ndarray,
    method: Method,
    options: Options,
    variants: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """`counted`, and `seconds`: what the calls take for all variants, by one timed call at the largest window."""
    about, pixels, widest = counted(pipe, picture, hole, method, options)
    seconds = variants * pixels / math.prod(widest) * call_seconds(pipe, widest, isinstance(method, GradientMethod), clock)
    return {**about, "variants": variants, "seconds": round(seconds, 2)}


def counted(
    pipe: Inpainter, picture: Picture, hole: np.ndarray, method: Method, options: Options, measured: Measured | None = None
) -> tuple[dict[str, Any], int, tuple[int, int]]:
    """(regions with their scales and windows and network calls of one picture: so many per window, move down and region; the pixels of
    all calls' windows; the largest window's size (H, W)). measured: as `Inpainter.fill`. Runs no network."""
    hole = grown(hole, options.grow) if options.grow else hole
    schedule, largest = pipe.denoiser.schedule, pipe.model.network.config.largest
    planned, total, pixels, widest = [], 0, 0, (1, 1)
    for region in pipe.plan(hole, options, method, measured or referred(picture, hole, method)):
        known = known_from_hole(regions.cut(hole, region.box, True))
        levels = []
        for scale in region.scales:
            corners, size = regions.windows(regions.reduced(known, known, scale)[1], largest)
            at = method if scale == region.scales[0] else refined(method, options.refine)
            evaluations = moves_down(at.walk.times(schedule)) * at.calls * options.calls
            total += evaluations * len(corners)
            pixels += evaluations * len(corners) * math.prod(size)
            widest = max(widest, size, key=math.prod)
            levels.append({"scale": scale, "windows": len(corners), "window_size": size[::-1], "evaluations": evaluations * len(corners)})
        planned.append({"box": list(region.box), "levels": levels})
    about = {"method": type(method).__name__, "hole_fraction": float(hole.mean()), "evaluations": total, "regions": planned}
    return about, pixels, widest


@dataclass(frozen=True)
class Work:
    """Of the network, as the walk says."""

    evaluations: int = 0
    pixels: int = 0
    """Of the windows of all evaluations."""

    @classmethod
    def of(
        cls, pipe: Inpainter, picture: Picture, hole: np.ndarray, method: Method, options: Options, measured: Measured | None = None
    ) -> "Work":
        """That of one filling."""
        about, pixels, _ = counted(pipe, picture, hole, method, options, measured)
        return cls(int(about["evaluations"]), pixels)

    def __add__(self, other: "Work") -> "Work":
        return Work(self.evaluations + other.evaluations, self.pixels + other.pixels)


def call_seconds(pipe: Inpainter, size: Sequence[int], gradient: bool, clock: Callable[[], float] = time.perf_counter) -> float:
    """Of one evaluation of the network on one picture of `size` (H, W), the median of three after one; with its gradient if asked."""
    h, w = (math.ceil(n / pipe.denoiser.multiple) * pipe.denoiser.multiple for n in size)
    level = max(1, pipe.denoiser.schedule.T // 2)
    denoiser = replace(pipe.denoiser, labels=None if not classes(pipe.model.network) else torch.zeros(1, dtype=torch.long))
    taken = list[float]()
    for _ in range(4):
        began = clock()
        with torch.set_grad_enabled(gradient):
            x = torch.zeros(1, channels(pipe.model.network), h, w, device=pipe.device).requires_grad_(gradient)
            x0, _ = denoiser(x, level)
            if gradient:
                torch.autograd.grad(x0.sum(), x)
        if pipe.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(clock() - began)
    return median(taken[1:])
