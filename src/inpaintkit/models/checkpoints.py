"""Model folders: diffusers layout plus `inpaintkit.json`, read strictly. Nothing in a folder is ever executed.

    folder/unet/config.json, unet/diffusion_pytorch_model.safetensors, scheduler/scheduler_config.json,
    folder/inpaintkit.json (our `NetworkConfig`; absent in foreign folders), folder/README.md (model card)

A bare diffusers folder (config.json and weights at the top) is read too.
"""

import hashlib
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from inpaintkit.core.errors import BadInput, InpaintError
from inpaintkit.core.files import write_bytes
from inpaintkit.core.schedule import NoiseSchedule, from_config
from inpaintkit.core.settings import checked, dumped
from inpaintkit.models.unet import Network, NetworkConfig

WEIGHTS = "diffusion_pytorch_model.safetensors"
MAX_JSON = 1 << 20
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def load_folder(folder: Path) -> tuple[Network, NoiseSchedule, str]:
    """(network in float32 on the CPU, its schedule, sha256 of the weights file). Raises `BadInput`, one line."""
    folder = Path(folder)
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler = _scheduler_config(folder)
    network = _build(unet_folder, _network_config(folder, unet_folder, scheduler))
    weights = unet_folder / WEIGHTS
    network.unet.load_state_dict(read_weights(weights, dict(network.unet.state_dict())), assign=True)
    return network.eval().requires_grad_(False), from_config(scheduler, str(folder)), sha256(weights)


def save_folder(folder: Path, network: Network, schedule: NoiseSchedule, card: str, dtype: torch.dtype = torch.float32) -> None:
    """Write a model folder that `load_folder` and diffusers' own classes read. Weights are written last."""
    unet = folder / "unet"
    unet.mkdir(parents=True, exist_ok=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    prediction = next(theirs for theirs, ours in PREDICTIONS.items() if ours == network.config.prediction)
    scheduler = {"_class_name": "DDPMScheduler", **schedule.config, "prediction_type": prediction, "clip_sample": network.config.clamp}
    unet_config = {"_class_name": "UNet2DModel", **{k: v for k, v in network.unet.config.items() if not k.startswith("_")}}
    for path, values in (
        (folder / "scheduler" / "scheduler_config.json", scheduler),
        (unet / "config.json", unet_config),
        (folder / "inpaintkit.json", dumped(network.config)),
    ):
        write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.unet.state_dict().items()}
    write_bytes(unet / WEIGHTS, safetensors_bytes(tensors, {"format": "pt"}))


def read_weights(path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a safetensors file as float32, when exactly those expected, with their shapes, and finite."""
    if not path.is_file():
        pickled = sorted(p.name for p in path.parent.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        hint = f"{pickled[0]} is a pickle and can hold code; convert it to safetensors" if pickled else "the folder is incomplete"
        raise BadInput(f"{path}: no such file; {hint}")
    try:
        with safe_open(path, "pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (not a dict)
            _compare(path, shapes, {key: tuple(tensor.shape) for key, tensor in expected.items()})
            tensors = {key: file.get_tensor(key) for key in shapes}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path}: not a complete safetensors file ({error}); get it again") from None
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise BadInput(f"{path}: {key[:80]} is {tensor.dtype}; floating-point weights are needed")
        if not torch.isfinite(tensor).all():
            raise BadInput(f"{path}: {key[:80]} holds NaN or infinity; the training that made it failed")
    return {key: tensor.float() for key, tensor in tensors.items()}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(path: Path, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    missing, surplus = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or surplus:
        example = f"missing {missing[0]}" if missing else f"unexpected {surplus[0][:80]}"
        counts = f"{len(missing)} tensors missing, {len(surplus)} unexpected"
        raise BadInput(f"{path}: does not fit its config.json: {counts} ({example}); weights and config are of different models")
    for key, shape in expected.items():
        if found[key] != shape:
            raise BadInput(f"{path}: {key} has shape {found[key]}, config.json asks for {shape}; weights and config are of different models")


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON:
            raise BadInput(f"{path}: larger than {MAX_JSON} bytes; this is no configuration file")
        values = json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; a model folder needs it") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: not a JSON object")
    return values


def _scheduler_config(folder: Path) -> dict[str, Any]:
    for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if path.is_file():
            return _json(path)
    raise BadInput(f"{folder}: no scheduler_config.json; without it the noise levels of the network are unknown")


def _network_config(folder: Path, unet_folder: Path, scheduler: dict[str, Any]) -> NetworkConfig:
    prediction = PREDICTIONS.get(scheduler.get("prediction_type", "epsilon"))
    if prediction is None:
        raise BadInput(f"{folder}: prediction_type {scheduler['prediction_type']!r} is not known; use {', '.join(PREDICTIONS)}")
    if (folder / "inpaintkit.json").is_file():
        try:
            config = checked(NetworkConfig, _json(folder / "inpaintkit.json"))
        except BadInput:
            raise
        except InpaintError as error:
            raise BadInput(f"{folder / 'inpaintkit.json'}: {error}") from None
        if config.prediction != prediction:
            raise BadInput(f"{folder}: inpaintkit.json says the network predicts {config.prediction}, the scheduler says {prediction}")
        return config
    size = _json(unet_folder / "config.json").get("sample_size") or 64
    side = int(size if isinstance(size, int) else min(size))
    base = NetworkConfig(prediction=prediction, clamp=bool(scheduler.get("clip_sample", True)), size=side, largest=max(side, 64))  # type: ignore[arg-type]
    return replace(base, condition=None)


def _build(unet_folder: Path, config: NetworkConfig) -> Network:
    """The empty network, without allocating memory: a hostile config costs nothing before its weights are compared."""
    from diffusers import UNet2DModel

    path = unet_folder / "config.json"
    values = _json(path)
    if (name := values.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise BadInput(f"{path}: a {name}; only UNet2DModel networks can be read")
    known = set(inspect.signature(UNet2DModel.__init__).parameters) - {"self"}
    arguments = {k: v for k, v in values.items() if not k.startswith("_")}
    if foreign := sorted(arguments.keys() - known):
        raise BadInput(f"{path}: UNet2DModel has no setting {foreign[0]!r}")
    try:
        with torch.device("meta"):
            unet = UNet2DModel(**arguments)
    except Exception as error:  # the config is foreign input, and diffusers raises whatever its parts raise
        raise BadInput(f"{path}: no network can be built from it ({type(error).__name__}: {str(error).splitlines()[0][:120]})") from None
    inputs = 3 if config.condition is None else sum({"x_t": 3, "mask": config.condition.mask_channels, "colors": 3}[n] for n in config.condition.order)
    if arguments.get("in_channels") != inputs * config.patch**2 and config.condition is not None:
        raise BadInput(f"{path}: in_channels = {arguments.get('in_channels')}, inpaintkit.json asks for {inputs * config.patch**2}")
    return Network(unet, config)
