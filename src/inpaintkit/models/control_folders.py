"""Folders of conditional networks, read as strictly as the others: nothing in them is ever executed.

folder/inpaintkit.json ("class": "control", and `ControlConfig`), folder/control.safetensors,
folder/scheduler/scheduler_config.json, folder/README.md (model card)
"""

import json
from pathlib import Path

import torch

from inpaintkit.core.errors import BadInput
from inpaintkit.core.files import write_bytes
from inpaintkit.core.schedule import NoiseSchedule, from_config
from inpaintkit.core.settings import dumped
from inpaintkit.models.checkpoints import (
    PREDICTIONS,
    checked_config,
    read_json,
    scheduler_config,
    scheduler_values,
)
from inpaintkit.models.control import ControlConfig, ControlNetwork
from inpaintkit.models.weights import read_weights, sha256, weights_bytes

CONFIG, WEIGHTS, CLASS = "inpaintkit.json", "control.safetensors", "control"


def holds(folder: Path) -> bool:
    """Whether a folder says that it is one of a conditional network."""
    path = Path(folder) / CONFIG
    return path.is_file() and read_json(path).get("class") == CLASS


def load(folder: Path) -> tuple[ControlNetwork, NoiseSchedule, str]:
    """(network in float32 on the CPU, its schedule, sha256 of the weights file). Raises `BadInput`, one line."""
    folder = Path(folder)
    config = _config(folder / CONFIG)
    scheduler = scheduler_config(folder)
    if (said := PREDICTIONS.get(str(scheduler.get("prediction_type", "epsilon")))) != config.prediction:
        raise BadInput(f"{folder}: {CONFIG} says the network predicts {config.prediction}, the scheduler says {said}; correct one of them")
    with torch.device("meta"):  # no memory yet: a hostile configuration costs nothing before the weights are compared
        network = ControlNetwork(config)
    network.load_state_dict(read_weights(folder / WEIGHTS, network.state_dict()), assign=True)
    return network.eval().requires_grad_(False), from_config(scheduler, str(folder)), sha256(folder / WEIGHTS)


def save(folder: Path, network: ControlNetwork, schedule: NoiseSchedule, card: str, dtype: torch.dtype = torch.float32) -> None:
    """Write a folder that `load` reads. Weights are written last."""
    config = network.config
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    for path, values in (
        (folder / "scheduler" / "scheduler_config.json", scheduler_values(schedule, config.prediction, config.clamp)),
        (folder / CONFIG, {"class": CLASS, **dumped(config)}),
    ):
        write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    write_bytes(folder / WEIGHTS, weights_bytes(tensors))


def _config(path: Path) -> ControlConfig:
    values = {key: value for key, value in read_json(path).items() if key != "class"}
    config = checked_config(ControlConfig, path, values)
    if units := config.units:
        for key, count in (("mean", config.channels), ("std", config.channels), ("cond_mean", None), ("cond_std", None)):
            if len(getattr(units, key)) != (count or config.cond_channels):
                raise BadInput(f"{path}: units.{key} has {len(getattr(units, key))} numbers for {count or config.cond_channels} channels")
    if wrong := config.wrong():
        raise BadInput(f"{path}: {wrong}")
    return config
