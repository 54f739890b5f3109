"""What each part of a network is worth: its held-out figures with that part switched off.

    python recipes/ablate.py recipes/grf-32.toml runs/grf-32/model
    python recipes/ablate.py recipes/photo-64.toml photo-64 --split test --set data.root=DATA
    python recipes/ablate.py recipes/gan-64.toml runs/gan-64/model --set data.root=DATA

Switched off are: of a control network the features of its encoder at each resolution, and the cross-attention; of a network that
is told what is known the mask channels and the colours; of a generator the latent z. The figures are those that training
validates by, lower is better; ± is half a 95 % interval of the difference from the whole network, over batches.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from scipy.special import stdtrit
from torch import Tensor, nn

from inpaintkit.core.errors import BadInput
from inpaintkit.models import catalog
from inpaintkit.models.control import ControlNetwork
from inpaintkit.models.unet import AnyNetwork, Network, channels
from inpaintkit.train.draws import Draws, stacked
from inpaintkit.train.recipes import read


@dataclass(frozen=True)
class Args:
    """Print the held-out figures without each part of a network."""

    recipe: tyro.conf.Positional[Path]
    """That the model was trained with: it says what the data are."""
    model: tyro.conf.Positional[str]
    """Bundled name or folder."""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Settings put over the recipe's."""
    batches: int = 16
    items: int = 32
    """In a batch; the same noise, levels and masks for every row."""
    kind: int = 0
    """Which of the recipe's kinds of batch."""
    split: Literal["validation", "test"] = "validation"
    """Of pictures that neither the model nor one it started from was trained on; of photo-64's recipe that is test."""


Without = dict[str, list[str]]


def parts(network: AnyNetwork) -> Without:
    """What can be switched off: name of a row -> parts."""
    if isinstance(network, ControlNetwork):
        control = [name for name in network.parts if name.startswith("control.")]
        return {name: [name] for name in network.parts} | ({"all control": control} if len(control) > 1 else {})
    told = [part for part in (network.config.condition.order if network.config.condition else ()) if part != "x_t"]
    every = told + ["z"] * bool(network.config.latent)
    return {name: [name] for name in every} | ({"mask and colors": told} if told else {})


@contextmanager
def switched_off(network: AnyNetwork, names: list[str]) -> Iterator[None]:
    if isinstance(network, ControlNetwork):
        network.without = frozenset(names)
        yield
        network.without = frozenset()
        return
    handles = [network.unet.register_forward_pre_hook(lambda _, given: (_zeroed(network, names, given[0]), *given[1:]))]
    if "z" in names and network.mapping is not None:
        handles.append(network.mapping.register_forward_pre_hook(lambda _, given: (torch.zeros_like(given[0]),)))
    yield
    for handle in handles:
        handle.remove()


def _zeroed(network: Network, names: list[str], stack: Tensor) -> Tensor:
    """The U-Net's input with the channels of some parts at 0."""
    condition, stack, at = network.config.condition, stack.clone(), 0
    for part in condition.order if condition else ():
        width = network.config.patch**2 * (condition.mask_channels if condition and part == "mask" else channels(network))
        if part in names:
            stack[:, at : at + width] = 0
        at += width
    return stack


@torch.no_grad()
def main(args: Args) -> None:
    recipe = read(args.recipe, args.set)
    network = catalog.load(args.model).network
    source = recipe.data.open()
    task: Any = recipe.task.fitted(source.about())
    if not source.count(args.split) or len(task.averaged) != 1:
        raise BadInput(f"{args.recipe}: holds no data out, or trains several networks")
    draws = Draws(recipe, source, args.split)
    drawn = [[draws.item(1, i * args.items + j, args.kind) for j in range(args.items)] for i in range(args.batches)]
    batches = [stacked(items) for items in drawn]
    networks: dict[str, nn.Module] = {task.averaged[0]: network}

    def figures(without: list[str]) -> tuple[list[str], np.ndarray]:
        with switched_off(network, without):
            found = [task.validate(networks, batch) for batch in batches]
        return list(found[0]), np.array([[float(value) for value in row.values()] for row in found])

    names, whole = figures([])
    print(f"{args.model} on {args.batches * args.items} items of {source.count(args.split)} {args.split} examples")
    print(f"{'without':<16}" + "".join(f" {name:>9} {'change':>20}" for name in names))
    for row, without in ({"(nothing)": []} | parts(network)).items():
        found = figures(without)[1]
        change, half = (found - whole).mean(0), stdtrit(len(found) - 1, 0.975) * (found - whole).std(0, ddof=1) / np.sqrt(len(found))
        columns = [f" {found[:, k].mean():9.5f} {f'{change[k]:+.5f} ± {half[k]:.5f}':>20}" for k in range(len(names))]
        print(f"{row:<16}" + "".join(columns), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
