"""A recipe for a tiny real network, pictures for it, and runs of it in processes of their own."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from inpaintkit.core.errors import InpaintError
from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import Recipe, read
from inpaintkit.train.session import train

FILE = Path(__file__).with_name("tiny.toml")
RECIPE = read(FILE)


def pictures(root: Path, count: int = 16) -> Path:
    """`root/photos` with that many pictures of 40 x 40."""
    (root / "photos").mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)).save(root / "photos" / f"{i:02d}.png")
    return root


def on(root: Path, recipe: Recipe = RECIPE, **changes: Any) -> Recipe:
    """The recipe on the pictures below `root`."""
    recipe = replace(recipe, **changes)
    return replace(recipe, data=replace(recipe.data, root=str(root)))


def tasked(recipe: Recipe, **unet: Any) -> Recipe:
    """The recipe with other arguments of its U-Net."""
    return replace(recipe, task=replace(recipe.task, unet=recipe.task.unet | unet))


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    """A copy of all that training changes."""
    return {name: tensor.detach().clone() for name, tensor in trainer.tensors().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def started(action: Callable[..., None], *args: Any, environment: dict[str, str] | None = None) -> Any:
    """A process of its own that does the action with one thread. Its exit code is that of the refusal, if it raises one."""
    process = PROCESSES.Process(target=_act, args=(action, args, environment or {}))
    process.start()
    return process


def trained(recipe: Recipe, out: Path) -> None:
    """`train` on the CPU, for `started`."""
    train(recipe, out, device="cpu")


def together(count: int, action: Callable[..., None], *args: Any) -> list[Any]:
    """The same, as that many processes that train as one."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    group = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [started(action, *args, environment=group | {"RANK": str(i), "LOCAL_RANK": str(i)}) for i in range(count)]


def _act(action: Callable[..., None], args: tuple[Any, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        action(*args)
    except InpaintError as error:
        print(f"error: {error}", flush=True)
        raise SystemExit(error.exit_code) from None


PROCESSES: Any = multiprocessing.get_context("forkserver")  # forked from a process that has imported everything and computed nothing
PROCESSES.set_forkserver_preload(["inpaintkit.train.session", "diffusers.models.unets.unet_2d", "torch.utils.tensorboard"])


def prepare() -> None:
    """Let the server import meanwhile."""
    forkserver.ensure_running()
