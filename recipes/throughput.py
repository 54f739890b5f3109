"""Training throughput of a recipe, as a share of what this machine's matrix units reach.

    python recipes/throughput.py RECIPE.toml [--set KEY=VALUE ...] [--steps 20] [--device auto]

Counted are the floating-point operations of matrix products and convolutions in whole training steps (forward and backward;
torch.utils.flop_counter), divided by the whole time of those steps, batches and optimiser included. The peak is the best of
several matrix products in the arithmetic the recipe trains with. Run it on a machine that does nothing else.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import tyro
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from inpaintkit.train.draws import kind_of
from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import read


@dataclass(frozen=True)
class Throughput:
    """Floating-point operations per second of training, and of the largest matrix product and convolution."""

    recipe: tyro.conf.Positional[Path]
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """A setting put over the recipe's."""
    steps: int = 20
    """Steps that are timed, after a few that are not."""
    device: str = "auto"


def main(args: Throughput) -> None:
    recipe = read(args.recipe, [*args.set, f"steps={10**9}"])
    with TemporaryDirectory() as out:
        trainer = Trainer(recipe, Path(out), args.device)
        device, dtype = trainer.device, torch.bfloat16 if trainer.bfloat16 else torch.float32
        print(f"{device.type}, {str(dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        products = peak(device, dtype)
        print(f"peak of matrix products  {products / 1e9:12.1f} GFLOP/s")
        print(f"peak of convolutions     {convolutions(device, dtype) / 1e9:12.1f} GFLOP/s")
        training, per_item, items = trained(trainer, args.steps)
    print(f"training                 {training / 1e9:12.1f} GFLOP/s: {items:.2f} items/s of {per_item / 1e9:.2f} GFLOP each")
    print(f"training / peak of matrix products = {training / products:.1%}")


def trained(trainer: Trainer, steps: int) -> tuple[float, float, float]:
    """Of so many steps: operations per second, operations per item, items per second."""
    recipe, run = trainer.recipe, trainer.run()
    counts: dict[int, int] = {}
    while len(counts) < sum(batch.share > 0 for batch in recipe.data.batches):
        kind = kind_of(recipe, trainer.step)
        with FlopCounterMode(display=False) as counter:
            next(run)
        counts[kind] = counter.get_total_flops()
    for _ in range(3):
        next(run)
    synchronize(trainer.device)
    first, items, begin = trainer.step, trainer.items, time.perf_counter()
    for _ in range(steps):
        next(run)
    synchronize(trainer.device)
    seconds, items = time.perf_counter() - begin, trainer.items - items
    operations = sum(counts[kind_of(recipe, step)] for step in range(first, first + steps))
    return operations / seconds, operations / items, items / seconds


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the best square matrix product."""
    sides = (4096, 8192, 16384) if device.type == "cuda" else (512, 1024, 2048)
    rates = []
    for side in sides:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        rates.append(2 * side**3 / fastest(lambda: a @ b, device))  # noqa: B023
    return max(rates)


def convolutions(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the best 3x3 convolution among the sizes that U-Nets have, channels last."""
    rates = []
    for width, side, items in ((64, 64, 16), (128, 32, 16), (192, 16, 64), (512, 32, 64)):
        x = torch.randn(items, width, side, side, device=device).to(dtype, memory_format=torch.channels_last)
        w = torch.randn(width, width, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
        rates.append(2 * items * side**2 * width**2 * 9 / fastest(lambda: F.conv2d(x, w, padding=1), device))  # noqa: B023
    return max(rates)


@torch.no_grad()
def fastest(action: Callable[[], object], device: torch.device, seconds: float = 2.0) -> float:
    """The shortest time of one action among those that fit into so many seconds."""
    action()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        synchronize(device)
        begin = time.perf_counter()
        action()
        synchronize(device)
        times.append(time.perf_counter() - begin)
    return min(times)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main(tyro.cli(Throughput))
