"""Put a trained model folder into the package as bfloat16, with its card and checksum: a denoiser, or an adapter of a bundled one.

    python recipes/bundle.py runs/photo-64/model photo-64        (the card is recipes/photo-64.md)

How a denoiser is used by default is taken from recipes/NAME.toml: that may have been decided after training. An adapter keeps its own.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from inpaintkit.core.files import write_bytes
from inpaintkit.models import catalog, lora
from inpaintkit.models.checkpoints import WEIGHTS, load_folder, save_folder, sha256
from inpaintkit.train.recipes import read

HERE = Path(__file__).parent


def denoiser(source: Path, target: Path, card: str) -> Path:
    network, schedule, _ = load_folder(source)
    network.config = read(HERE / f"{target.name}.toml").task.network
    save_folder(target, network, schedule, card, torch.bfloat16)
    return target / "unet" / WEIGHTS


def adapter(source: Path, target: Path, card: str) -> Path:
    """What is written is loaded once: it must fit the bundled model it adapts."""
    about = lora.read(source)
    if about.base not in catalog.MODELS:
        sys.exit(f"{source}: adapts {about.base}, which is not bundled")
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(lora.WEIGHTS, "README.md", "merged"))
    write_bytes(target / "README.md", card.encode())
    tensors = {name: value.to(torch.bfloat16) for name, value in load_file(source / lora.WEIGHTS).items()}
    write_bytes(target / lora.WEIGHTS, safetensors_bytes(tensors, {"format": "pt"}))
    catalog.load(target)
    return target / lora.WEIGHTS


source, name = Path(sys.argv[1]), sys.argv[2]
weights = (adapter if lora.holds(source) else denoiser)(source, catalog.ASSETS / name, (HERE / f"{name}.md").read_text())
sums = catalog.ASSETS / "SHA256.json"
known = json.loads(sums.read_text()) if sums.is_file() else {}
known[name] = sha256(weights)
write_bytes(sums, (json.dumps(known, indent=1) + "\n").encode())
print(weights, known[name])
