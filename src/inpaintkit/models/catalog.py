"""Models by name: the bundled ones, a folder, a file of guided-diffusion's family, or a hub id (which contains a slash)."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from inpaintkit.core.errors import BadInput, InpaintError, UsageError
from inpaintkit.core.files import refuse_folder, writing_folder
from inpaintkit.core.schedule import NoiseSchedule, from_config
from inpaintkit.models import control_folders, foreign, lora
from inpaintkit.models.checkpoints import load_folder, save_folder, scheduler_config
from inpaintkit.models.control import ControlNetwork
from inpaintkit.models.unet import AnyNetwork, Network
from inpaintkit.models.weights import sha256

ASSETS = Path(__file__).resolve().parent.parent / "assets"

MODELS: dict[str, str] = {
    "photo-64": "natural photos, mask-conditioned, also unconditional; for every method",
    "photo-64-few": "the same, taught by a classifier's features: nearer fills in fewer evaluations; what fills unless told otherwise",
    "face-64": "aligned faces; an adapter of photo-64",
}
DEFAULT = "photo-64"
FILLING = "photo-64-few"
"""Nearer to the truth than `DEFAULT` at every depth of hole (docs/LOG.md), but only as it was trained: told the hole, in its own steps."""
DETECTORS: dict[str, str] = {
    "damage": "where a picture is damaged: scratches, stains, text, paint; for `blind`",
}
"""Bundled mask predictors, read by `models/damage.py`."""
DETECTOR = "damage"
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


@dataclass(frozen=True)
class Model:
    """A loaded network (float32, on the CPU) with its schedule and where it came from."""

    name: str
    network: AnyNetwork
    schedule: NoiseSchedule
    sha256: str
    base: str | None = None
    """Of an adapter: the model it is merged into."""

    @property
    def unet(self) -> Network:
        """The network, if it is a `UNet2DModel` with what we add. Raises `UsageError` for a conditional network of ours."""
        if isinstance(self.network, ControlNetwork):
            raise UsageError(f"{self.name}: is a conditional network with a control encoder; a U-Net in diffusers' layout is needed")
        return self.network


def locate(name: str, fetch: bool = True) -> Path:
    """The folder of a bundled name, a path, or a hub id in the local hub cache or, with `fetch`, from the hub; or the file at a path.

    Raises `UsageError` for an unknown name and `BadInput` for a hub id that gives no model.
    """
    if name in MODELS or name in DETECTORS:
        return ASSETS / name
    path = Path(name)
    if path.is_dir() or path.is_file():
        return path
    if path.suffix in SUFFIXES:
        raise UsageError(f"{name}: no such file; check the path")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _hub(name, fetch)
    raise UsageError(
        f"{name}: no such model; bundled are {', '.join(MODELS | DETECTORS)}, else give a folder, a file, or a hub id such as owner/name"
    )


def load(name: str | Path, config: Path | None = None) -> Model:
    """Load and check a model. Raises `UsageError` or `BadInput`, one line.

    config: for a file, what its weights cannot say (`foreign.GuidedDiffusion` as JSON); published files need none.
    """
    name = str(name)
    if name in DETECTORS:
        raise UsageError(f"{name}: finds damage and fills nothing; pass it to `inpaintkit blind` as --detector")
    folder = locate(name)
    if folder.is_file():
        return Model(name, *foreign.load_file(folder, config))
    if config is not None:
        raise UsageError(f"{name}: is a model folder, which has its configuration inside; leave --config away")
    if lora.holds(folder):
        return _adapted(name, folder)
    network, schedule, digest = control_folders.load(folder) if control_folders.holds(folder) else load_folder(folder)
    check_bundled(name, digest)
    return Model(name, network, schedule, digest)


def _adapted(name: str, folder: Path) -> Model:
    """A folder's adapter, merged into its base."""
    adapter = lora.read(folder)
    try:
        base = locate(adapter.base, fetch=False)  # no file makes us open a connection
    except InpaintError:
        how = f"put that model there, or correct `base` in {lora.CONFIG}"
        raise BadInput(f"{folder}: adapts {adapter.base}, which is not here; {how}") from None
    if base.is_dir() and lora.holds(base):
        raise BadInput(f"{folder}: adapts {adapter.base}, an adapter itself; merge that with `inpaintkit models convert` first")
    check_bundled(name, digest := sha256(folder / lora.WEIGHTS))
    model = load(base)
    schedule = from_config(scheduler_config(folder), str(folder))
    return Model(name, lora.load(folder, model.unet, model.sha256), schedule, digest, adapter.base)


def check_bundled(name: str, digest: str) -> None:
    """Raise `BadInput` when a bundled name's weights have another checksum than when they were packed."""
    sums = ASSETS / "SHA256.json"
    if (name in MODELS or name in DETECTORS) and sums.is_file() and json.loads(sums.read_text()).get(name) != digest:
        raise BadInput(f"{ASSETS / name}: the bundled weights are damaged (their checksum differs); install inpaintkit again")


def convert(source: str, folder: Path, config: Path | None = None) -> Model:
    """Write the model `source` (all that `load` takes) as a new model folder, complete or not at all.

    Raises `NotWritable` when the folder exists, and what `load` raises.
    """
    refuse_folder(folder)
    model = load(source, config)
    with writing_folder(folder) as temporary:
        save_folder(temporary, model.unet, model.schedule, foreign.card(source, model.sha256, model.unet))
    return model


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device has bfloat16 instructions; measured 2 to 3 times faster there, and slower where they are emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _hub(name: str, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*/*.json", "*/*.safetensors"], local_files_only=not fetch)
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInput(f"{name}: no such folder, and the hub gave nothing ({first}); check the id and the connection") from None
    if not any(folder.rglob("*.safetensors")):
        how = f"UNet2DModel.from_pretrained({name!r}).save_pretrained(FOLDER) with diffusers, and scheduler_config.json beside it"
        raise BadInput(f"{name}: the hub has no safetensors weights of it, and pickles (.bin) can hold code; make a folder: {how}")
    return folder
