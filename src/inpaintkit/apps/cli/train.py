"""`inpaintkit train`: a recipe becomes a model folder."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.core import toml
from inpaintkit.core.errors import BadInput, UsageError

if TYPE_CHECKING:
    from inpaintkit.train.loop import Report

EVERY = 15.0  # seconds between plain lines


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train the model that RECIPE describes, and export it as a model folder, OUT/model. A run that was stopped or died goes on
    where its last state was saved. Several processes: torchrun --nproc-per-node 2 -m inpaintkit train RECIPE.
    """

    recipe: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RECIPE.toml")]
    """What is trained, on what, and how."""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """A setting put over the recipe's: keys with dots, items of lists by number, as in data.batches.0.items=8."""
    resume: Annotated[str, tyro.conf.arg(metavar="auto|never|DIR")] = "auto"
    """auto: go on with the state in OUT, if there is one; never: refuse when there is; DIR: start from that run's state."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/NAME)")] = None
    """Where states, logs and the model go."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Stop in order after so many minutes."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    quiet: bool = False
    """No progress and no notes."""


def run(argv: Sequence[str]) -> None:
    args: Train = parse(Train, argv, "inpaintkit train")
    try:
        from inpaintkit.train.recipes import read
        from inpaintkit.train.session import train
    except ModuleNotFoundError as error:
        raise UsageError(f"inpaintkit train: needs {error.name}, which is not installed; pip install 'inpaintkit[train]'") from None
    recipe = read(args.recipe, args.set)
    out = args.out or Path("runs") / recipe.name
    try:
        with _shown(recipe.name, recipe.steps, args.quiet) as show:
            model = train(recipe, out, args.resume, args.device, args.minutes, show.tell, show.step)
    except (BadInput, UsageError) as error:
        if (placed := toml.located(error, args.recipe, args.set)) is error:
            raise
        raise placed from error
    if model is not None:
        print(model)


class _Show:
    """Lines on stderr: notes, and the progress of training now and then."""

    def __init__(self, steps: int, quiet: bool):
        self.steps, self.quiet = steps, quiet
        self.losses: dict[str, float] = {}
        self.began, self.first, self.printed = 0.0, 0, 0.0

    def tell(self, text: str) -> None:
        if not self.quiet:
            self._print(text)

    def step(self, report: "Report") -> None:
        """Show a step."""
        now = time.monotonic()
        if not self.began:
            self.began, self.first = now - report.seconds, report.step - 1
        for name, loss in report.losses.items():
            self.losses[name] = loss if name not in self.losses else 0.95 * self.losses[name] + 0.05 * loss
        left = (now - self.began) / (report.step - self.first) * (self.steps - report.step)
        losses = ", ".join(f"{name} {loss:.4g}" for name, loss in list(self.losses.items())[:3])
        if not self.quiet:
            self._progress(report.step, losses, _time(left))

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _progress(self, step: int, losses: str, left: str) -> None:
        if step in (self.first + 1, self.steps) or time.monotonic() - self.printed > EVERY:
            self.printed = time.monotonic()
            self._print(f"step {step} of {self.steps}: {losses}, about {left} left")


class _Bar(_Show):
    """The same with a bar, on a terminal."""

    def __init__(self, steps: int, bar: Any, task: Any):
        super().__init__(steps, False)
        self.bar, self.task = bar, task

    def _print(self, text: str) -> None:
        self.bar.console.print(text, markup=False, highlight=False)

    def _progress(self, step: int, losses: str, left: str) -> None:
        self.bar.update(self.task, completed=step, losses=losses, left=left)


@contextmanager
def _shown(name: str, steps: int, quiet: bool) -> Iterator[_Show]:
    if quiet or not sys.stderr.isatty():
        yield _Show(steps, quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    fields = TextColumn("{task.fields[losses]}"), TextColumn("{task.fields[left]} left")
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *fields, console=Console(stderr=True)) as bar:
        yield _Bar(steps, bar, bar.add_task(name, total=steps, losses="", left="?"))


def _time(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{hours:.1f} h"
