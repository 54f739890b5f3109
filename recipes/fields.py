"""Write a paired data set for the conditional model: dense fields, and what was measured of them.

    python recipes/fields.py grf --out runs/fields/grf                      20,000 Gaussian random fields, sparse points
    python recipes/fields.py fronts --out runs/fields/fronts --measure corrupted

`grf`: stationary Gaussian fields, drawn exactly (Cholesky root of the covariance of all points). Kriging is exact here.
`fronts`: steps and discs of temperature, carried along by a random incompressible flow, with a little diffusion.

OUT/target.npy (N, H, W, 1) float32 in units · OUT/cond.npy (N, H, W, C') float32 · OUT/fields.json: units, scale, how it was
made · OUT/mask.npy (N, H, W), True = not known: with --measure sparse only. The other kinds tell no single value exactly.
`inpaintkit.data.arrays.read` reads it. A field depends on the seed and its number alone: a larger count adds fields.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from math import pi, sqrt
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import cholesky
from scipy.special import ndtr

from inpaintkit.core.errors import UsageError
from inpaintkit.core.files import writing_folder
from inpaintkit.core.settings import Settings, checked, dumped
from inpaintkit.evaluate.kriging import Covariance

Rng = np.random.Generator
Fields = NDArray[np.float32]
"""(B, H, W), in units."""
BLOCK = 50  # fields drawn together by one generator; always whole, so that the count changes no field

UNITS: dict[str, dict[str, Any]] = {
    "grf": {"name": "Gaussian random field", "units": "log10(mD), permeability", "mean": 2.0, "noise": 0.14},
    "fronts": {"name": "fronts by advection and diffusion", "units": "degC, temperature", "mean": 15.0, "noise": 0.4},
}
"""`mean` is the exact expectation of every point; `noise` the standard deviation of --measure corrupted, in units."""


@dataclass(frozen=True)
class Flow(Settings):
    """How fronts come about; lengths in sides of the field, time in units of the whole transport."""

    modes: Annotated[int, Field(ge=1)] = 6
    travel: Annotated[float, Field(ge=0)] = 0.2
    """Root mean square speed: how far a particle would go at a constant velocity."""
    wavelength: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.5, 1.5)
    """Of the velocity's modes; the wave number is uniform between these."""
    diffusion: Annotated[float, Field(ge=0.005)] = 0.02
    """sqrt(kappa time): half of the final variance of a point's heat kernel is its square."""
    steps: Annotated[int, Field(ge=1)] = 6
    """Runge-Kutta steps of the flow map."""


@dataclass(frozen=True)
class Args(Settings):
    """Write paired arrays of dense fields and measurements of them."""

    kind: tyro.conf.Positional[Literal["grf", "fronts"]]
    out: Path
    """A new folder."""
    count: Annotated[int, Field(ge=1)] = 20_000
    size: Annotated[int, Field(ge=8, le=64, multiple_of=4)] = 32
    """Points on a side. The Cholesky root of grf takes size^4 numbers: hence at most 64."""
    seed: Annotated[int, Field(ge=0)] = 0
    measure: Literal["sparse", "lowres", "corrupted", "projected"] = "sparse"
    covariance: Covariance = field(default_factory=lambda: Covariance("matern32", 6.0, 0.49, 0.0005))
    """Of grf; the variance in squared units, the length in points."""
    flow: Flow = field(default_factory=Flow)
    """Of fronts."""


def grf(args: Args) -> Callable[[Rng], Fields]:
    """Gaussian fields with mean and `covariance` as stated: mean + L z with L L' the covariance (RW 2006, appendix A.2)."""
    root, mean = cholesky(args.covariance.matrix((args.size, args.size)), lower=True), UNITS["grf"]["mean"]

    def draw(rng: Rng) -> Fields:
        z = rng.standard_normal((BLOCK, len(root)))
        return (mean + z @ root.T).reshape(BLOCK, args.size, args.size).astype(np.float32)

    return draw


def fronts(args: Args) -> Callable[[Rng], Fields]:
    """Advection and diffusion of steps and discs, one Strang step: half the diffusion, the whole flow, half the diffusion.

    Diffused steps are error functions, written down; the flow map is integrated backwards from the points of a grid finer
    than the kernel (so nothing is interpolated and values never leave their range); the last half is a Gaussian kernel, which
    also averages down to the grid. Discs are diffused as if their edge were straight: they are large beside the kernel.
    """
    width = args.flow.diffusion
    pad = 3 * width * args.size
    fine = np.arange(-pad, args.size - 1 + pad, 0.75 * width * args.size) / args.size
    x, y = (np.ascontiguousarray(a.ravel(), np.float32) for a in np.meshgrid(fine, fine))
    kernel = np.exp(-(((np.arange(args.size)[:, None] / args.size - fine) / width) ** 2) / 2)
    kernel = (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)

    def draw(rng: Rng) -> Fields:
        departed = carried(x, y, args.flow, rng)
        values = UNITS["fronts"]["mean"] + diffused(*departed, width, rng)
        return kernel @ values.reshape(BLOCK, len(fine), len(fine)) @ kernel.T

    return draw


def carried(x: Fields, y: Fields, flow: Flow, rng: Rng) -> tuple[Fields, Fields]:
    """Where the particles that arrive at points (P,) came from, `(BLOCK, P)` each: dX/dt = -u(X), Runge-Kutta of order four.

    u is a steady sum of shear waves, each along its own crests: incompressible exactly, without differences.
    """
    shape = (flow.modes, BLOCK, 1)
    angle, phase = (rng.uniform(0, 2 * pi, shape).astype(np.float32) for _ in range(2))
    number = rng.uniform(2 * pi / flow.wavelength[1], 2 * pi / flow.wavelength[0], shape).astype(np.float32)
    speed = np.float32(flow.travel * sqrt(2 / flow.modes))

    def back(px: Fields, py: Fields) -> tuple[Fields, Fields]:
        u, v = np.zeros_like(px), np.zeros_like(py)
        for a, k, p in zip(angle, number, phase, strict=True):
            wave = speed * np.sin(k * np.cos(a) * px + k * np.sin(a) * py + p)
            u += np.sin(a) * wave
            v -= np.cos(a) * wave
        return u, v

    x, y = (np.repeat(v[None], BLOCK, 0) for v in (x, y))
    h = np.float32(1 / flow.steps)
    for _ in range(flow.steps):
        a = back(x, y)
        b = back(x + h / 2 * a[0], y + h / 2 * a[1])
        c = back(x + h / 2 * b[0], y + h / 2 * b[1])
        d = back(x + h * c[0], y + h * c[1])
        x, y = (p + h / 6 * (a[i] + 2 * b[i] + 2 * c[i] + d[i]) for i, p in enumerate((x, y)))
    return x, y


def diffused(x: Fields, y: Fields, width: float, rng: Rng) -> Fields:
    """Temperatures at points (B, P), mean 0: a straight step and three discs of 1 to 3 degrees, warm or cold, edges of `width`."""

    def uniform(low: float, high: float) -> Fields:
        return rng.uniform(low, high, (len(x), 1)).astype(np.float32)

    def amplitude() -> Fields:
        return uniform(1, 3) * np.where(uniform(-1, 1) < 0, np.float32(-1), np.float32(1))

    angle, offset, high = uniform(0, 2 * pi), uniform(-0.35, 0.35), amplitude()
    values = high * (ndtr(((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) - offset) / width) - np.float32(0.5))
    for _ in range(3):
        radius, cx, cy, high = uniform(0.1, 0.3), uniform(-0.1, 1.1), uniform(-0.1, 1.1), amplitude()
        values += high * ndtr((radius - np.hypot(x - cx, y - cy)) / width)
    return values


def measured(fields: Fields, args: Args, rng: Rng) -> tuple[Fields, NDArray[np.bool_] | None]:
    """(cond (B, H, W, C') in units, hole (B, H, W) or None where no value is told exactly); what each channel is: `CHANNELS`."""
    (b, n, _), mean = fields.shape, np.float32(UNITS[args.kind]["mean"])
    if args.measure == "sparse":
        share = rng.uniform(0.01, 0.10, (b, 1))
        rank = rng.random((b, n * n)).argsort(1).argsort(1).reshape(fields.shape)
        hole = rank >= np.maximum(1, np.round(share * n * n))[..., None]
        return np.stack([np.where(hole, mean, fields), ~hole], -1).astype(np.float32), hole
    if args.measure == "lowres":
        pooled = fields.reshape(b, n // 4, 4, n // 4, 4).mean((2, 4))
        return pooled.repeat(4, 1).repeat(4, 2)[..., None], None
    if args.measure == "projected":
        rows, columns = (np.broadcast_to(fields.mean(axis, keepdims=True), fields.shape) for axis in (2, 1))
        return np.stack([rows, columns], -1), None
    missing, at = np.zeros(fields.shape, bool), np.arange(n)
    for k in range(4):
        side, there = rng.integers(n // 8, n // 3 + 1, (2, b, 1)), (k == 0) | (rng.random((b, 1)) < 0.5)
        start = rng.integers(0, n - side + 1)
        down, across = (at >= start) & (at < start + side)
        missing |= (down & there)[:, :, None] & across[:, None, :]
    noisy = fields + rng.normal(0, UNITS[args.kind]["noise"], fields.shape)
    return np.stack([np.where(missing, mean, noisy), ~missing], -1).astype(np.float32), None


CHANNELS: dict[str, tuple[str, ...]] = {
    "sparse": ("value where known, else the mean", "1 where known (1 to 10 % of the points, uniform per field), else 0"),
    "lowres": ("average over squares of 4 x 4 points, repeated",),
    "corrupted": ("value plus noise, the mean in missing boxes", "1 outside of the missing boxes, else 0"),
    "projected": ("average of the row, repeated along it", "average of the column, repeated along it"),
}


def scales(args: Args, target: NDArray, cond: NDArray) -> dict[str, Any]:
    """Means and standard deviations per channel; exact ones where theory has them, else those of the fields written."""
    mean = UNITS[args.kind]["mean"]
    std = args.covariance.std if args.kind == "grf" else float(np.std(target, dtype=np.float64))
    flags = args.measure in ("sparse", "corrupted")
    of_cond = [std, 1.0] if flags else [float(s) for s in np.std(cond, axis=(0, 1, 2), dtype=np.float64)]
    return {"mean": [mean], "std": [std], "cond": {"mean": [mean, 0.0] if flags else [mean] * len(of_cond), "std": of_cond}}


def write(args: Args) -> None:
    """Write the folder, complete or not at all. Raises `UsageError` for values out of their bounds, `NotWritable` if it exists."""
    args = checked(Args, args)
    if args.flow.wavelength[0] > args.flow.wavelength[1]:
        raise UsageError(f"flow.wavelength = {args.flow.wavelength}: the shorter one comes first")
    args.out.absolute().parent.mkdir(parents=True, exist_ok=True)
    shape, channels = (args.count, args.size, args.size), len(CHANNELS[args.measure])
    made = {"grf": grf, "fronts": fronts}[args.kind](args)
    with writing_folder(args.out) as folder:
        target = np.lib.format.open_memmap(folder / "target.npy", "w+", np.float32, (*shape, 1))
        cond = np.lib.format.open_memmap(folder / "cond.npy", "w+", np.float32, (*shape, channels))
        mask = np.lib.format.open_memmap(folder / "mask.npy", "w+", bool, shape) if args.measure == "sparse" else None
        for block, start in enumerate(range(0, args.count, BLOCK)):
            fields = made(np.random.default_rng([args.seed, block, 0]))
            part, left = slice(start, start + BLOCK), min(BLOCK, args.count - start)
            told, hole = measured(fields, args, np.random.default_rng([args.seed, block, 1]))
            target[part], cond[part] = fields[:left, ..., None], told[:left]
            if mask is not None and hole is not None:
                mask[part] = hole[:left]
        about = {key: UNITS[args.kind][key] for key in ("name", "units")} | scales(args, target, cond)
        about["cond"]["channels"] = CHANNELS[args.measure]
        about["measure"] = {"kind": args.measure, "noise": UNITS[args.kind]["noise"] if args.measure == "corrupted" else 0.0}
        how = {"grf": "covariance", "fronts": "flow"}[args.kind]
        about |= {how: dumped(args)[how], "seed": args.seed, "count": args.count, "size": args.size}
        for array in (target, cond, mask):
            if array is not None:
                array.flush()
        (folder / "fields.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    write(tyro.cli(Args, description=__doc__))
