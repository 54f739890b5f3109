"""`python -m inpaintkit.train RECIPE --data DIR --out DIR`: train, resume and export a model folder."""

import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from inpaintkit.models.checkpoints import save_folder
from inpaintkit.models.unet import Network
from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import read


@dataclass(frozen=True)
class Train:
    """Train the recipe; continue when the output folder holds a state."""

    recipe: tyro.conf.Positional[Path]
    data: Path
    """Folder that the recipe's sources are relative to."""
    out: Path
    """Where states, the log and the exported model folder go."""
    start: Path | None = None
    """Model folder whose weights to start from."""
    steps: int | None = None
    """Another number of steps than the recipe's."""
    decay: float | None = None
    """Another share of steps for the final fall of the rate."""
    minutes: float | None = None
    """Stop after this many minutes (the state is saved)."""
    save_minutes: Annotated[float, tyro.conf.arg(help="Minutes between saved states.")] = 5.0
    threads: int | None = None


def main(args: Train) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    overrides = {k: v for k, v in (("steps", args.steps), ("decay", args.decay)) if v is not None}
    trainer = Trainer(read(args.recipe, overrides), args.data, args.out, args.start)
    for warning in trainer.resume():
        print(f"warning: {warning}")
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"{len(trainer.train.images)} pictures to train on, {len(trainer.held.images)} held out; from step {trainer.step}", flush=True)
    print(held_out(trainer, trainer.averaged()), flush=True)
    begin = saved = time.monotonic()
    losses: list[float] = []
    seconds: list[float] = []
    for report in trainer.run():
        losses.append(report.loss)
        seconds.append(report.seconds)
        now = time.monotonic()
        over = args.minutes is not None and now - begin > 60 * args.minutes
        if report.step % 100 == 0:
            loss, pace = sum(losses) / len(losses), sum(seconds) / len(seconds)
            row = [report.step, report.pictures, f"{loss:.5f}", f"{report.rate:.2e}", f"{pace:.3f}"]
            print("step {} pictures {} loss {} rate {} seconds {}".format(*row), flush=True)
            with (args.out / "log.csv").open("a", newline="") as file:
                csv.writer(file).writerow(row)
            losses, seconds = [], []
        if now - saved > 60 * args.save_minutes or over or report.step == trainer.recipe.steps:
            trainer.save()
            network = trainer.averaged()
            print(held_out(trainer, network), flush=True)
            save_folder(args.out / "model", network, trainer.schedule, f"{trainer.recipe.name}: {trainer.pictures} pictures seen.\n")
            saved = time.monotonic()
        if over:
            break


def held_out(trainer: Trainer, network: Network) -> str:
    return f"held-out loss {trainer.validate(network):.4f} at 64 px, {trainer.validate(network, 32, 128):.4f} at 128 px"


if __name__ == "__main__":
    main(tyro.cli(Train))
