"""Real networks small enough for tests: two resolutions, random weights, milliseconds a call."""

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel

from inpaintkit.core.schedule import NoiseSchedule, cosine
from inpaintkit.models import control_folders
from inpaintkit.models.checkpoints import save_folder
from inpaintkit.models.control import ControlConfig, ControlNetwork, Units
from inpaintkit.models.unet import Condition, Network, NetworkConfig

UNET = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
TOLD = Condition()


def unet(inputs: int = 3, outputs: int = 3, seed: int = 0, **other: Any) -> UNet2DModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DModel(**(UNET | {"in_channels": inputs, "out_channels": outputs} | other)).eval().requires_grad_(False)


def network(
    condition: Condition | None = TOLD, spread: bool = False, seed: int = 0, unet_other: dict[str, Any] | None = None, **config: Any
) -> Network:
    """A tiny network of a config, the channels counted from it."""
    values = NetworkConfig(
        **({"prediction": "x0", "size": 16, "largest": 64, "default_method": {"name": "plain"}} | config), condition=condition
    )
    area = values.patch**2
    inputs = 3 if condition is None else 6 + condition.mask_channels
    return Network(unet(inputs * area, (6 if spread else 3) * area, seed, **(unet_other or {})), values).eval()


def folder(path: Path, made: Network | None = None, schedule: NoiseSchedule | None = None, dtype: torch.dtype = torch.float32) -> Path:
    """A model folder of a tiny network."""
    save_folder(path, made or network(), schedule or cosine(), "A tiny network with random weights.\n", dtype)
    return path


def foreign(path: Path, **other: Any) -> Path:
    """An unconditional folder as diffusers' own classes write it (the layout of google/ddpm-*)."""
    from diffusers import DDPMScheduler

    unet(**other).save_pretrained(path)
    DDPMScheduler(num_train_timesteps=1000).save_pretrained(path)
    return path


CONTROL = {"widths": (8, 16), "blocks": 1, "head_width": 8, "size": 16, "largest": 32}
KELVIN = Units((280.0,), (5.0,), (280.0,), (5.0,), "K")


def control(seed: int = 0, **config: Any) -> ControlNetwork:
    """A conditional network with no weight at zero, as after some training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = ControlNetwork(ControlConfig(**(CONTROL | config)))
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
    return made.eval().requires_grad_(False)


def field_folder(path: Path, **config: Any) -> Path:
    """A model folder of a conditional network of one-channel fields in kelvins, told their values."""
    config = {"channels": 1, "cond_channels": 1, "clamp": False, "units": KELVIN} | config
    config = {"default_method": {"name": "plain", "walk": {"steps": 3, "spacing": "trailing"}}} | config
    control_folders.save(path, control(**config), cosine(100), "A tiny network with random weights.\n")
    return path
