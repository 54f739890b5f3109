"""What each part of a conditional network is worth: its held-out error with that part switched off.

    python recipes/ablate.py recipes/grf-32.toml runs/grf-32/model
    python recipes/ablate.py recipes/control-64.toml runs/control-64/model --set data.root=DATA

`loss` is the training loss of items that are told everything, `rmse` the error of x0 from the condition and pure noise where
nothing is known, in the network's scale; ± is half a 95 % interval of the difference from the whole network, over batches.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from inpaintkit.core.errors import BadInput
from inpaintkit.models import control_folders
from inpaintkit.train.draws import Draws, stacked
from inpaintkit.train.recipes import read
from inpaintkit.train.tasks.control import Control


@dataclass(frozen=True)
class Args:
    """Print the held-out error without each part of a conditional network."""

    recipe: tyro.conf.Positional[Path]
    """That the model was trained with: it says what the data are."""
    model: tyro.conf.Positional[Path]
    """Model folder."""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Settings put over the recipe's."""
    batches: int = 16
    items: int = 32
    """In a batch; the same noise, levels and masks for every row."""


@torch.no_grad()
def main(args: Args) -> None:
    recipe = read(args.recipe, args.set)
    network, _, _ = control_folders.load(args.model)
    source = recipe.data.open()
    task = recipe.task.fitted(source.about())
    if not isinstance(task, Control) or not source.count("validation"):
        raise BadInput(f"{args.recipe}: is not a recipe of the kind 'control' with held-out data")
    draws = Draws(recipe, source, "validation")
    batches = [stacked([draws.item(1, i * args.items + j, 0) for j in range(args.items)]) for i in range(args.batches)]

    def figures(without: frozenset[str]) -> np.ndarray:
        network.without = without
        return np.array([[float(value) for value in task.validate({"network": network}, batch).values()] for batch in batches])

    whole = figures(frozenset())
    print(
        f"{args.model} on {args.batches * args.items} held-out items\n{'without':<12} {'loss':>8} {'change':>18} {'rmse':>8} {'change':>18}"
    )
    for part in ("", *network.parts, *(["all control"] if len(network.config.widths) > 1 else [])):
        every = [name for name in network.parts if name.startswith("control.")]
        found = figures(frozenset(every if part == "all control" else [part] if part else []))
        change, half = (found - whole).mean(0), 1.96 * (found - whole).std(0, ddof=1) / np.sqrt(len(found))
        columns = [f"{found[:, k].mean():8.4f} {f'{change[k]:+.4f} ± {half[k]:.4f}':>18}" for k in (0, 1)]
        print(f"{part or '(nothing)':<12} {' '.join(columns)}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
