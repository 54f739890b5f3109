"""Items and batches by number: every random draw is a function of (seed, step, item), so the step number is the whole
state of the data, for any number of workers and processes."""

import signal
import sys
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from inpaintkit.core.errors import UsageError
from inpaintkit.train.recipes import Recipe
from inpaintkit.train.sources import Source
from inpaintkit.train.task import Item

STREAMS = {
    "kind": 0,
    "train": 1,
    "validation": 2,
    "test": 3,
}  # a second number of the seed: a shorter seed is padded with zeros, so it must differ early


class Draws(Dataset[Item]):
    """Items by (step, item): each from its own generator."""

    def __init__(self, recipe: Recipe, source: Source, split: str):
        self.recipe, self.source, self.split = recipe, source, split

    def __getitem__(self, key: tuple[int, int]) -> Item:
        step, item = key
        return self.item(step, item, kind_of(self.recipe, step))

    def item(self, step: int, item: int, kind: int) -> Item:
        """The item for a kind of batch, whatever kind the step draws."""
        rng = np.random.default_rng([self.recipe.seed, STREAMS[self.split], step, item])
        return self.recipe.task.item(self.source.draw(rng, kind, self.split), rng)


def kind_of(recipe: Recipe, step: int) -> int:
    """Which of the data's kinds of batch a step takes."""
    shares = np.array([batch.share for batch in recipe.data.batches])
    return int(np.random.default_rng([recipe.seed, STREAMS["kind"], step]).choice(len(shares), p=shares / shares.sum()))


def stacked(items: Sequence[Item]) -> Item:
    """Items as one batch `(B, ...)`."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def pieces(batch: Item, count: int) -> list[Item]:
    """A batch in `count` equal parts."""
    names = list(batch)
    return [dict(zip(names, parts, strict=True)) for parts in zip(*(batch[name].chunk(count) for name in names), strict=True)]


def refuse_uneven(recipe: Recipe, processes: int) -> None:
    """Raise `UsageError` unless every process gets the same number of items in every piece."""
    for i, batch in enumerate(recipe.data.batches):
        if batch.items % (processes * recipe.accumulate):
            wanted = f"processes ({processes}) times accumulate ({recipe.accumulate})"
            raise UsageError(f"data.batches.{i}.items = {batch.items}: must be a multiple of {wanted}")


def batches(recipe: Recipe, source: Source, first: int, part: int, of: int, pin: bool = False) -> Iterator[Item]:
    """Part `part` of `of` equal parts of the training batch of every step from `first` on, on the CPU."""
    keys = (
        [(step, item) for item in range(part * count, (part + 1) * count)]
        for step in range(first, recipe.steps)
        for count in [recipe.data.batches[kind_of(recipe, step)].items // of]
    )
    context = "fork" if recipe.workers and sys.platform == "linux" else None  # others would copy the data to every worker
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than processors is the recipe's affair
        loader = DataLoader(
            Draws(recipe, source, "train"),
            batch_sampler=keys,  # any iterable will do
            collate_fn=stacked,
            num_workers=recipe.workers,
            pin_memory=pin,
            multiprocessing_context=context,
            worker_init_fn=_outlast_signals,
            generator=torch.Generator(),  # nothing is drawn from it that matters; the global one stays as it is
        )
    yield from loader


def worker_died(error: BaseException) -> bool:
    """Whether an error of `batches` says that a worker is gone, which is how the system ends one for want of memory."""
    return isinstance(error, ConnectionError | EOFError) or "DataLoader worker" in str(error)


def _outlast_signals(worker: int) -> None:
    """Ctrl-C, and often SIGTERM, reach the whole group; the main process needs its workers until it has stopped in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))  # the second one ends it
