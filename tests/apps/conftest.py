"""A real, tiny, untrained network as a model folder, a photo, a mask, and the command line called in-process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image

from inpaintkit.apps.cli import main
from inpaintkit.core.schedule import cosine
from inpaintkit.models.checkpoints import save_folder
from inpaintkit.models.unet import Condition, Network, NetworkConfig


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    unet = UNet2DModel(
        in_channels=9, out_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, add_attention=False, **blocks
    )
    config = NetworkConfig(prediction="x0", condition=Condition(), size=16, largest=64, default_method={"name": "plain"})
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(folder, Network(unet, config), cosine(100), "A tiny untrained network.\n")
    return folder


@pytest.fixture
def photo(tmp_path) -> Path:
    """48x40, RGB, PNG."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def mask(tmp_path) -> Path:
    """A 10x8 hole at (20, 12) of the photo."""
    hole = np.zeros((40, 48), np.uint8)
    hole[12:20, 20:30] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(hole).save(path)
    return path


@pytest.fixture
def cli(capsys):
    """Run a command line: (exit code, stdout, stderr)."""

    def call(*argv) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(a) for a in argv])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def fill(cli, model, photo, mask):
    """`inpaintkit fill` of the photo on the tiny model, in few steps."""

    def call(*argv, image=photo, hole=mask, method=("plain", "--steps", "2")) -> tuple[int, str, str]:
        holes = [] if hole is None else [hole]
        return cli("fill", image, *holes, "--model", model, "--dtype", "float32", *argv, *method)

    return call
