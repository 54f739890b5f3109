"""Pictures twice or four times as large: three ways of the ILVR report, and one that says how the picture was made smaller."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn import functional as F

from inpaintkit.core.errors import UsageError
from inpaintkit.core.noise import derived
from inpaintkit.core.resize import AvgPool, Bicubic, Decimate
from inpaintkit.core.sampler import Method
from inpaintkit.core.settings import Settings, checked, dumped
from inpaintkit.core.walk import Walk
from inpaintkit.data.images import Hole, Picture
from inpaintkit.methods.ddnm import DDNM
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options, Step
from inpaintkit.pipeline.measured import Measured, reference, whole

SHORT, AVERAGE = DDNM(renoise=1.0, walk=Walk(4, "trailing", start=0.2)), 4  # of the operator way, docs/benchmarks/upscale.md


@dataclass(frozen=True)
class Upscale(Settings):
    """How a picture is enlarged, apart from the method."""

    factor: Literal[2, 4] = 2
    """How many times as wide and as high."""
    how: Literal["operator", "bicubic-mask", "insert-mask", "ilvr"] = "operator"
    """operator: the result, made smaller again, is the input. insert-mask: the input's pixels stand in every second (fourth)
    row and column, and the rest is filled. bicubic-mask: the same with the pixels of a bicubic enlargement, which lie half
    a pixel beside them. ilvr: the bicubic enlargement is a reference to resemble."""
    down: Literal["avgpool", "bicubic"] = "avgpool"
    """How the input was made smaller, for `operator`: means of cells, as a camera does, or bicubic reduction."""
    decimated: bool = False
    """The input was made by keeping every second (fourth) pixel, from the first on, and by nothing else."""
    average: Annotated[int, Field(ge=1, le=64)] | None = None
    """Samples whose mean each result is: nearer to the truth than one of them, and softer. Unless given 4 for
    `operator` with its own method, else 1."""


@dataclass(frozen=True)
class Enlargement:
    """What has to be filled for an `Upscale` of a picture, and how."""

    large: Picture
    """Of the full size."""
    hole: Hole
    method: Method | None
    """None: the model's own."""
    measured: Measured | None
    count: int
    """Samples whose mean each result is."""


def upscale(
    pipe: Inpainter,
    picture: Picture,
    how: Upscale | None = None,
    method: Method | None = None,
    seed: int = 0,
    variants: int = 1,
    options: Options | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> tuple[list[Picture], dict[str, Any]]:
    """(enlarged pictures, record). Depth, colour profile and EXIF stay; alpha is enlarged bicubically.

    The method is the model's own for the mask ways, a short ddnm from the bicubic enlargement for `operator` and ilvr for
    `ilvr`, unless given; `walk.start` below 1 starts part-way from that enlargement. Raises
    `UsageError` for a way that does not fit the input or the method, and as `Inpainter.fill`.
    """
    u = checked(Upscale, how or Upscale())
    e = asked(picture, u, method)

    def fill(seed: int, variants: int, on_step: Callable[[Step], None] | None) -> tuple[list[Picture], dict[str, Any]]:
        return pipe.fill(e.large, e.hole, e.method, seed, variants, options, on_step, e.measured)

    results, record = fill(seed, variants, on_step) if e.count == 1 else means(fill, e.count, seed, variants, on_step)
    return [replace(result, alpha=e.large.alpha) for result in results], {**record, "upscale": {**dumped(u), "average": e.count}}


def own(u: Upscale) -> Method | None:
    """The method of a way, unless another is given; None: the model's."""
    return SHORT if u.how == "operator" else ILVR(factor=u.factor) if u.how == "ilvr" else None


def asked(picture: Picture, u: Upscale, method: Method | None) -> Enlargement:
    """What `upscale` fills. Raises `UsageError` for a way that does not fit what is said of the input, or the method."""
    check(u, method)
    values, measured = whole(picture), None
    large = enlarged(picture, u.factor, corners=u.decimated and u.how != "bicubic-mask")
    hole = np.ones(large.size[::-1], bool)
    if u.how == "operator":
        operator = Decimate(u.factor) if u.decimated else {"avgpool": AvgPool, "bicubic": Bicubic}[u.down](u.factor)
        measured = Measured(operator, values, u.factor, whole(large))
    elif u.how == "ilvr":
        measured = reference(large)
    else:
        hole[:: u.factor, :: u.factor] = False
        large = large if u.how == "bicubic-mask" else inserted(picture, u.factor)
    count = u.average or (AVERAGE if u.how == "operator" and method is None else 1)
    return Enlargement(large, hole, method or own(u), measured, count)


def means(
    fill: Callable[[int, int, Callable[[Step], None] | None], tuple[list[Picture], dict[str, Any]]],
    count: int,
    seed: int,
    variants: int,
    on_step: Callable[[Step], None] | None,
) -> tuple[list[Picture], dict[str, Any]]:
    """(pictures, record) where every variant is the mean of `count` samples, whose seeds derive from its own."""
    results, records = [], []
    for k in range(variants):
        shown = None if on_step is None else partial(_shown, on_step, k, variants)
        samples, record = fill(derived(seed + k, "average"), count, shown)
        mean = np.mean([sample.pixels for sample in samples], axis=0, dtype=np.float64)
        pixels = (mean.round() if samples[0].pixels.dtype.kind == "u" else mean).astype(samples[0].pixels.dtype)
        results.append(replace(samples[0], pixels=pixels))
        records.append(record)
    sums = {name: sum(record[name] for record in records) for name in ("seconds", "seconds_total")}
    each = {name: count * records[0][name] for name in ("nfe", "nfe_backward")}
    return results, {**records[0], **sums, **each, "seed": seed, "variants": variants}


def _shown(on_step: Callable[[Step], None], k: int, variants: int, step: Step) -> None:
    """A move made for variant k, counted among those of all variants."""
    on_step(replace(step, done=step.done + k * step.total, total=step.total * variants))


def enlarged(picture: Picture, factor: int, corners: bool = False) -> Picture:
    """The picture enlarged bicubically. Its pixels are the middles of cells, or their top left corners, where they keep their values."""
    low, high = picture.span

    def resize(samples: NDArray) -> NDArray:
        x = torch.from_numpy(samples.astype(np.float64)).permute(2, 0, 1)[None]
        size = tuple(n * factor for n in x.shape[2:])
        if corners:
            wide = F.pad(x, (0, 1, 0, 1), mode="replicate")
            x = F.interpolate(wide, tuple(n + 1 for n in size), mode="bicubic", align_corners=True)[..., : size[0], : size[1]]
        else:
            x = F.interpolate(x, size, mode="bicubic", antialias=True)
        out = x[0].permute(1, 2, 0).numpy().clip(low, high)
        return np.ascontiguousarray(out.round() if samples.dtype.kind == "u" else out).astype(samples.dtype)

    alpha = None if picture.alpha is None else resize(picture.alpha[:, :, None])[:, :, 0]
    return replace(picture, pixels=resize(picture.pixels), alpha=alpha)


def inserted(picture: Picture, factor: int) -> Picture:
    """The picture's pixels spread out, `factor` apart, with black between them; its alpha repeated."""
    h, w, c = picture.pixels.shape
    pixels = np.full((h * factor, w * factor, c), picture.span[0], picture.pixels.dtype)
    pixels[::factor, ::factor] = picture.pixels
    alpha = None if picture.alpha is None else picture.alpha.repeat(factor, 0).repeat(factor, 1)
    return replace(picture, pixels=pixels, alpha=alpha)


def check(u: Upscale, method: Method | None) -> None:
    """Raise `UsageError` for a way that does not fit what is said of the input, or the method."""
    name = type(method).__name__
    if u.how.endswith("mask") and not u.decimated:
        raise UsageError(
            f"--how {u.how}: takes the input's pixels for pixels of the result, which is true of decimated pictures only, not of those a "
            "camera or a resize made; use --how operator, or pass --decimated if every pixel was copied"
        )
    if u.how == "operator" and isinstance(method, ILVR):
        raise UsageError(f"{name}: follows a reference of the full size; pass --how ilvr, or use ddnm")
    if u.how == "operator" and method is not None and method.tells_network:
        raise UsageError(f"{name}: asks the network alone, which cannot be told a smaller picture; use ddnm, or another --how")
    if u.how == "ilvr" and method is not None and not isinstance(method, ILVR):
        raise UsageError(f"{name}: cannot follow a reference; leave it out, or choose --how operator")
