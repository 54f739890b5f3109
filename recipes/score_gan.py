"""Held-out figures of generators, each sampled by its own walk: how near, how fast, how varied, and what the latent does.

    python recipes/score_gan.py recipes/gan-64.toml runs/gan-1/model runs/gan-2/model runs/gan-4/model runs/gan-8/model photo-64 \\
        --set data.root=DATA --pictures 128 --samples 4

All in the hole, over crops drawn from the recipe's held-out pictures, and its masks, with 95 % intervals over crops: PSNR of one
sample and of the mean of all (dB); spread, the root mean square difference of two samples in 8-bit steps; the same when only the
latent differs (same noise), and the PSNR of one sample when the latent is 0.
"""

import time
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from inpaintkit.core.noise import Noise, derived
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, begin, sample
from inpaintkit.evaluate.metrics import interval
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.train.draws import STREAMS
from inpaintkit.train.recipes import read


@dataclass(frozen=True)
class Score:
    recipe: tyro.conf.Positional[Path]
    """Whose held-out pictures and masks."""
    models: tyro.conf.Positional[tuple[str, ...]]
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = field(default=())
    pictures: int = 64
    """Crops; more than pictures there are repeat some."""
    samples: int = 4
    split: Literal["validation", "test"] = "test"
    """Of pictures that no model compared was trained on: in photo-64's recipe, and those that start from it, test."""
    dtype: str = "auto"


class Mixed(Noise):
    """The noise of one seed, with the latent of another."""

    def __init__(self, seed: int, latent: int):
        super().__init__([seed])
        self.latent = Noise([latent])

    def draw(self, stream: str, shape) -> Tensor:  # type: ignore[no-untyped-def]
        return self.latent.draw(stream, shape) if stream == "z" else super().draw(stream, shape)


def fill(pipe: Inpainter, x0: Tensor, known: Tensor, noise: Noise, latent: bool = True) -> Tensor:
    """x0 `(1, 3, H, W)` with its hole filled by the model's own method."""
    method, schedule = pipe.method(), pipe.denoiser.schedule
    denoiser = replace(pipe.denoiser, noise=noise if latent else None).told(known, x0)
    context = Context(denoiser, Known(known), x0, noise, method.walk.levels(schedule))
    *_, last = sample(method, method.walk.times(schedule), begin(context, x0.shape[1:]), context)
    return torch.where(known > 0, x0, last.x.clamp(-1, 1))


def rms(difference: Tensor, known: Tensor) -> float:
    """Root mean square in the hole, in 8-bit steps."""
    hole = (1 - known).expand_as(difference)
    return float((hole * difference.square()).sum().div(hole.sum()).sqrt()) * 127.5


def psnr(difference: Tensor, known: Tensor) -> float:
    return 20 * float(np.log10(255 / max(rms(difference, known), 1e-3)))


@torch.no_grad()
def score(pipe: Inpainter, examples: list[tuple[Tensor, Tensor]], samples: int) -> dict[str, list[float]]:
    """One number per picture for each column."""
    columns: dict[str, list[float]] = {}
    for i, (x0, known) in enumerate(examples):
        seeds = [derived(i, k) for k in range(samples)]
        began = time.perf_counter()
        fills = [fill(pipe, x0, known, Noise([seed])) for seed in seeds]
        row = {"seconds": (time.perf_counter() - began) / samples}
        row["psnr"] = psnr(fills[0] - x0, known)
        row["psnr of mean"] = psnr(torch.stack(fills).mean(0) - x0, known)
        row["spread"] = float(np.mean([rms(a - b, known) for a, b in combinations(fills, 2)]))
        if pipe.model.network.config.latent:
            row["spread by z"] = rms(fill(pipe, x0, known, Mixed(seeds[0], seeds[1])) - fills[0], known)
            row["psnr, z = 0"] = psnr(fill(pipe, x0, known, Noise(seeds[:1]), latent=False) - x0, known)
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def main(args: Score) -> None:
    recipe = read(args.recipe, args.set)
    source = recipe.data.open()
    drawn = [source.draw(np.random.default_rng([0, STREAMS[args.split], i, 0]), 0, args.split) for i in range(args.pictures)]
    examples = [(torch.from_numpy(d["x0"])[None], torch.from_numpy(d["known"])[None]) for d in drawn]
    names = ("psnr", "psnr of mean", "spread", "spread by z", "psnr, z = 0", "seconds")
    told = f"{args.pictures} crops drawn from {source.count(args.split)} {args.split} pictures, {args.samples} samples each"
    print(f"{told}, {torch.get_num_threads()} threads")
    print("| model | steps | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 2))
    for name in args.models:
        pipe = Inpainter.from_pretrained(name, dtype=args.dtype)
        columns = score(pipe, examples, args.samples)
        cells = [figure(columns[n]) if n in columns else "" for n in names]
        print(f"| {name} | {pipe.method().walk.steps} | " + " | ".join(cells) + " |", flush=True)


def figure(values: list[float]) -> str:
    low, high = interval(values)
    return f"{np.mean(values):.3g} [{low:.3g}, {high:.3g}]"


if __name__ == "__main__":
    main(tyro.cli(Score))
