"""What tasks that train a denoiser have in common: the noise levels it starts from and is run at, and what they refuse."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch

from inpaintkit.core.errors import UsageError
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.core.walk import Walk
from inpaintkit.methods import named
from inpaintkit.methods.plain import Plain
from inpaintkit.models import catalog
from inpaintkit.models.checkpoints import unet_settings
from inpaintkit.models.unet import Network, classes

SEEN = 20
"""Moves in which pictures for the log are made."""


def shown(schedule: NoiseSchedule) -> Plain:
    """How pictures for the log are made: in `SEEN` moves, or as many as there are levels."""
    return Plain(walk=Walk(min(SEEN, schedule.T), "trailing"))


def check_default(method: Mapping[str, Any], schedule: NoiseSchedule) -> None:
    """Raise `UsageError` unless there is such a default method, with these fields, and its walk fits the schedule's levels."""
    try:
        named(method).walk.times(schedule)
    except UsageError as error:
        raise UsageError(f"task.network.default_method: {error}") from None


def refuse_classes(network: Network, start: str | None = None) -> None:
    """Raise `UsageError` for a network, or one to start from, that wants a class for each picture: the data give none."""
    if classes(network):
        what = "task.unet: makes a network that" if start is None else f"task.start: {start}"
        raise UsageError(f"{what} wants a class for each picture; {'leave the classes out' if start is None else 'start from another one'}")


def refuse_channels(unet: Mapping[str, Any], counted: Mapping[str, int]) -> None:
    """Raise `UsageError` when a recipe's `task.unet` has a key that is none, or counts other channels than its network has."""
    for name in unet:
        if name not in (known := unet_settings()):
            close = get_close_matches(name, known, 1)
            near = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
            raise UsageError(f"task.unet.{name}: UNet2DModel has no such setting{near}")
    for name, count in counted.items():
        if unet.get(name, count) != count:
            raise UsageError(f"task.unet.{name} = {unet[name]}: task.network makes it {count}; leave it out")


def check_start(name: str | None, start: catalog.Model, ours: NoiseSchedule) -> None:
    """Raise `UsageError` unless the model to start from was trained at our noise levels, and wants no class."""
    refuse_classes(start.unet, name)
    theirs = start.schedule
    if ours.alpha_bar.shape != theirs.alpha_bar.shape or not torch.allclose(ours.alpha_bar, theirs.alpha_bar, rtol=1e-5, atol=1e-9):
        said = {k: theirs.config.get(k) for k in ("beta_schedule", "num_train_timesteps", "beta_start", "beta_end")}
        given = ", ".join(f"{k} = {v}" for k, v in said.items() if v is not None)
        raise UsageError(f"task.schedule: {name} was trained at other noise levels ({given}); give task.schedule and task.T so")
