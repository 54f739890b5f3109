"""Models by name: the bundled ones, a folder, or a hub id (which contains a slash)."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.models.checkpoints import WEIGHTS, load_folder
from inpaintkit.models.unet import Network

ASSETS = Path(__file__).resolve().parent.parent / "assets"

MODELS: dict[str, str] = {
    "photo-64": "natural photos, mask-conditioned, also unconditional; the default",
}
DEFAULT = "photo-64"


@dataclass(frozen=True)
class Model:
    """A loaded network (float32, on the CPU) with its schedule and where it came from."""

    name: str
    network: Network
    schedule: NoiseSchedule
    sha256: str


def locate(name: str) -> Path:
    """The folder of a bundled name, a path, or a hub id in the local hub cache or fetched from the hub.

    Raises `UsageError` for an unknown name and `BadInput` for something that is not a model folder.
    """
    if name in MODELS:
        return ASSETS / name
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise BadInput(f"{name}: is a file; give the model folder that holds config.json and {WEIGHTS}")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _hub(name)
    raise UsageError(f"{name}: no such model; bundled are {', '.join(MODELS)}, else give a folder or a hub id such as owner/name")


def load(name: str | Path) -> Model:
    """Load and check a model. Raises `UsageError` or `BadInput`, one line."""
    name = str(name)
    folder = locate(name)
    network, schedule, digest = load_folder(folder)
    sums = ASSETS / "SHA256.json"
    if name in MODELS and sums.is_file() and json.loads(sums.read_text()).get(name) != digest:
        raise BadInput(f"{folder}: the bundled weights are damaged (their checksum differs); install inpaintkit again")
    return Model(name, network, schedule, digest)


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device has bfloat16 instructions; measured 2 to 3 times faster there, and slower where they are emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*/*.json", "*/*.safetensors"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInput(f"{name}: no such folder, and the hub gave nothing ({first}); check the id and the connection") from None
