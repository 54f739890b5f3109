"""Put a trained model folder into the package as bfloat16, with its card and checksum: a denoiser, an adapter of one, a mask predictor.

    python recipes/bundle.py runs/photo-64/model photo-64        (the card is recipes/photo-64.md)

How a denoiser or mask predictor is used by default is taken from recipes/NAME.toml: that may have been decided after training. A
generator keeps its own.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from inpaintkit.core.files import write_bytes, writing_folder
from inpaintkit.core.settings import dumped
from inpaintkit.models import catalog, damage, lora
from inpaintkit.models.checkpoints import WEIGHTS, load_folder, save_folder
from inpaintkit.models.unet import NetworkConfig
from inpaintkit.models.weights import sha256, weights_bytes
from inpaintkit.train.recipes import read

HERE = Path(__file__).parent


def denoiser(source: Path, folder: Path, config: NetworkConfig | None, card: str) -> Path:
    network, schedule, _ = load_folder(source)
    network.config = config or network.config
    save_folder(folder, network, schedule, card, torch.bfloat16)
    return Path("unet", WEIGHTS)


def adapter(source: Path, folder: Path, config: NetworkConfig | None, card: str) -> Path:
    """What is written is loaded once: it must fit the bundled model it adapts."""
    about = lora.read(source)
    if about.base not in catalog.MODELS:
        sys.exit(f"{source}: adapts {about.base}, which is not bundled")
    about = replace(about, network=config or about.network)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(lora.WEIGHTS, "README.md", "merged", "samples.png"))
    write_bytes(folder / lora.CONFIG, (json.dumps(dumped(about), indent=1) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())
    tensors = {name: value.to(torch.bfloat16) for name, value in load_file(source / lora.WEIGHTS).items()}
    write_bytes(folder / lora.WEIGHTS, weights_bytes(tensors))
    catalog.load(folder)
    return Path(lora.WEIGHTS)


def detector(source: Path, folder: Path, config: damage.DetectorConfig, card: str) -> Path:
    network = damage.load(str(source)).network
    network.config = config
    damage.save_folder(folder, network, card)
    return Path(damage.WEIGHTS)


source, name = Path(sys.argv[1]), sys.argv[2]
target, card, task = catalog.ASSETS / name, (HERE / f"{name}.md").read_text(), read(HERE / f"{name}.toml").task
write = adapter if lora.holds(source) else detector if damage.is_detector(str(source)) else denoiser
new = target.with_name(f"{name}.new")
with writing_folder(new) as temporary:
    weights = write(source, temporary, None if task.kind == "gan" else task.network, card)
shutil.rmtree(target, ignore_errors=True)
new.rename(target)
sums = catalog.ASSETS / "SHA256.json"
known = json.loads(sums.read_text()) if sums.is_file() else {}
known[name] = sha256(target / weights)
write_bytes(sums, (json.dumps(known, indent=1) + "\n").encode())
print(target / weights, known[name])
