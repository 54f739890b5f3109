"""Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Counted(Protocol):
    """Anything of which so much is done: a move, a ring, a step of training."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


EVERY = 5.0  # seconds between plain lines


@contextmanager
def progress(text: str, quiet: bool, unit: str = "move") -> Iterator[Callable[[Counted], None]]:
    """A function to pass as `on_step`."""
    if quiet:
        yield lambda step: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(text, total=None)
            yield lambda step: bar.update(task, completed=step.done, total=step.total)
    else:
        yield _Lines(text, unit)


class _Lines:
    def __init__(self, text: str, unit: str):
        self.text, self.unit = text, unit
        self.began = self.printed = time.monotonic()

    def __call__(self, step: Counted) -> None:
        now = time.monotonic()
        if step.done not in (1, step.total) and now - self.printed < EVERY:
            return
        self.printed = now
        left = (now - self.began) / step.done * (step.total - step.done)
        print(f"{self.text}: {self.unit} {step.done} of {step.total}, about {left:.0f} s left", file=sys.stderr, flush=True)
