"""Put a trained model folder into the package as bfloat16, with its card and checksum.

python recipes/bundle.py runs/photo-64/model photo-64        (the card is recipes/photo-64.md)
"""

import json
import sys
from pathlib import Path

import torch

from inpaintkit.core.files import write_bytes
from inpaintkit.models.catalog import ASSETS
from inpaintkit.models.checkpoints import WEIGHTS, load_folder, save_folder, sha256
from inpaintkit.train.recipes import read

source, name = Path(sys.argv[1]), sys.argv[2]
network, schedule, _ = load_folder(source)
network.config = read(Path(__file__).parent / f"{name}.toml").task.network  # how to use it may have been decided after training
save_folder(ASSETS / name, network, schedule, (Path(__file__).parent / f"{name}.md").read_text(), torch.bfloat16)
sums = ASSETS / "SHA256.json"
known = json.loads(sums.read_text()) if sums.is_file() else {}
known[name] = sha256(ASSETS / name / "unet" / WEIGHTS)
write_bytes(sums, (json.dumps(known, indent=1) + "\n").encode())
print(ASSETS / name, known[name])
