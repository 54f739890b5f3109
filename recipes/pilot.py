"""Turn the half-trained 7-channel pilot network into a 9-channel model folder for `--set task.start=FOLDER`.

    python recipes/pilot.py PILOT.safetensors OUT_FOLDER

The pilot's stem saw [x_t 3, hole 1, colours 3], each times 4 by space-to-depth. Three copies of the mask with a third
of the weight each give exactly the same network.
"""

import sys
from pathlib import Path

import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file

from inpaintkit.core.schedule import cosine
from inpaintkit.models.checkpoints import save_folder
from inpaintkit.models.unet import Network
from inpaintkit.train.recipes import read

source, out = map(Path, sys.argv[1:])
recipe = read(Path(__file__).parent / "photo-64.toml")
weights = {key: tensor.float() for key, tensor in load_file(source).items()}
stem = weights["conv_in.weight"]
weights["conv_in.weight"] = torch.cat([stem[:, :12], *[stem[:, 12:16] / 3] * 3, stem[:, 16:]], 1)
network = Network(UNet2DModel(**recipe.task.unet), recipe.task.network)
network.unet.load_state_dict(weights)
save_folder(out, network, cosine(), "A half-trained start.\n")
