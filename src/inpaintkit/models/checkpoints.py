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
from typing import Any, TypeVar

import torch

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.files import write_bytes
from inpaintkit.core.schedule import NoiseSchedule, from_config
from inpaintkit.core.settings import checked, dumped
from inpaintkit.models.unet import Network, NetworkConfig, channels, has_spread, inputs, multiple, settings
from inpaintkit.models.weights import read_weights, sha256, weights_bytes

WEIGHTS = "diffusion_pytorch_model.safetensors"
MAPPING = "mapping.safetensors"  # of a generator's latent, beside inpaintkit.json
MAX_JSON = 1 << 20
MAX_BLOCKS = 64  # resolutions, and layers in each: a config may not ask for a network that takes minutes to lay out
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
T = TypeVar("T")


def load_folder(folder: Path) -> tuple[Network, NoiseSchedule, str]:
    """(network in float32 on the CPU, its schedule, sha256 of the weights file; of a generator, of the sums of its two files).

    Raises `BadInput`, one line.
    """
    folder = Path(folder)
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    if (folder / "damage.json").is_file():
        raise BadInput(f"{folder}: finds damage and fills nothing; pass it to `inpaintkit blind` as --detector")
    if latent := [name for name in ("vae", "vqvae") if (folder / name).is_dir()]:
        raise BadInput(f"{folder}: holds a {latent[0]}: its network works on compressed pictures; use one that works on pixels")
    scheduler = scheduler_config(folder)
    network = build(unet_folder / "config.json", read_json(unet_folder / "config.json"), _network_config(folder, unet_folder, scheduler))
    weights = unet_folder / WEIGHTS
    network.unet.load_state_dict(read_weights(weights, network.unet.state_dict()), assign=True)
    digest = sha256(weights)
    if network.mapping is not None:
        network.mapping.load_state_dict(read_weights(folder / MAPPING, network.mapping.state_dict()), assign=True)
        digest = hashlib.sha256((digest + sha256(folder / MAPPING)).encode()).hexdigest()
    return network.eval().requires_grad_(False), from_config(scheduler, str(folder)), digest


def save_folder(folder: Path, network: Network, schedule: NoiseSchedule, card: str, dtype: torch.dtype = torch.float32) -> None:
    """Write a model folder that `load_folder` and diffusers' own classes read. Weights are written last."""
    unet = folder / "unet"
    unet.mkdir(parents=True, exist_ok=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    scheduler = scheduler_values(schedule, network.config.prediction, network.config.clamp)
    if has_spread(network):
        scheduler["variance_type"] = "learned_range"  # without it diffusers' sampler takes the second half for colours
    unet_config = {"_class_name": "UNet2DModel", **settings(network)}
    for path, values in (
        (folder / "scheduler" / "scheduler_config.json", scheduler),
        (unet / "config.json", unet_config),
        (folder / "inpaintkit.json", dumped(network.config)),
    ):
        write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())
    if network.config.condition is None and network.config.patch == 1 and network.mapping is None:  # what that pipeline can run
        parts = {"scheduler": ["diffusers", scheduler["_class_name"]], "unet": ["diffusers", "UNet2DModel"]}
        write_bytes(folder / "model_index.json", (json.dumps({"_class_name": "DDPMPipeline", **parts}, indent=1) + "\n").encode())
    for path, module in ((folder / MAPPING, network.mapping), (unet / WEIGHTS, network.unet)):
        if module is not None:
            tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in module.state_dict().items()}
            write_bytes(path, weights_bytes(tensors))


def read_json(path: Path) -> dict[str, Any]:
    """The object a small JSON file holds. Raises `BadInput`."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise BadInput(f"{path}: larger than {MAX_JSON} bytes; this is no configuration file")
        values = json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; it is needed") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: not a JSON object")
    return values


def scheduler_values(schedule: NoiseSchedule, prediction: str, clamp: bool) -> dict[str, Any]:
    """What diffusers' DDPMScheduler is made from."""
    theirs = next(theirs for theirs, ours in PREDICTIONS.items() if ours == prediction)
    return {"_class_name": "DDPMScheduler", **schedule.config, "prediction_type": theirs, "clip_sample": clamp}


def scheduler_config(folder: Path) -> dict[str, Any]:
    """What the folder says about its noise levels. Raises `BadInput`."""
    for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if path.is_file():
            return read_json(path)
    cause = "no scheduler_config.json, without which the noise levels of a network are unknown"
    raise BadInput(f"{folder}: {cause}; name a model folder, or put that file into it")


def _network_config(folder: Path, unet_folder: Path, scheduler: dict[str, Any]) -> NetworkConfig:
    prediction = PREDICTIONS.get(str(scheduler.get("prediction_type", "epsilon")))
    if prediction is None:
        raise BadInput(f"{folder}: prediction_type {scheduler['prediction_type']!r} is not known; use {', '.join(PREDICTIONS)}")
    if (folder / "inpaintkit.json").is_file():
        config = checked_config(NetworkConfig, folder / "inpaintkit.json", read_json(folder / "inpaintkit.json"))
        if config.prediction != prediction:
            raise BadInput(f"{folder}: inpaintkit.json says the network predicts {config.prediction}, the scheduler says {prediction}")
        return config
    size = read_json(unet_folder / "config.json").get("sample_size") or 64
    side = size[0] if isinstance(size, list) and size else size
    values = {"prediction": prediction, "clamp": bool(scheduler.get("clip_sample", True)), "size": side}
    config = checked_config(NetworkConfig, unet_folder / "config.json", values)
    return replace(config, largest=-(-config.size // 64) * 64)


def checked_config(cls: type[T], path: Path, values: dict[str, Any]) -> T:
    """The settings class `cls` of what the file `path` says. Raises `BadInput`, naming the file."""
    try:
        return checked(cls, values)
    except UsageError as error:
        raise BadInput(f"{path}: {error}") from None


def unet_settings() -> list[str]:
    """The names of `UNet2DModel`'s arguments."""
    from diffusers import UNet2DModel

    return [name for name in inspect.signature(UNet2DModel.__init__).parameters if name != "self"]


def build(path: Path, values: dict[str, Any], config: NetworkConfig, device: str = "meta") -> Network:
    """The empty network of a `UNet2DModel` configuration, without allocating memory: a hostile one costs nothing before
    the weights are compared. On another device it has random weights, from torch's generator. Raises `BadInput`, naming the
    file `path` that asked for it."""
    from diffusers import UNet2DModel

    if (name := values.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise BadInput(f"{path}: a {str(name)[:80]}; only UNet2DModel networks can be read")
    arguments = {k: v for k, v in values.items() if not k.startswith("_")}
    if foreign := sorted(arguments.keys() - set(unet_settings())):
        raise BadInput(f"{path}: UNet2DModel has no setting {foreign[0][:80]!r}")
    layers, blocks = arguments.get("layers_per_block"), arguments.get("block_out_channels")
    if (isinstance(layers, int) and layers > MAX_BLOCKS) or (isinstance(blocks, list) and len(blocks) > MAX_BLOCKS):
        raise BadInput(f"{path}: asks for more than {MAX_BLOCKS} blocks, or layers in one; this is no usable network")
    if (kind := arguments.get("class_embed_type")) != ("identity" if config.latent else None):
        wanted = "identity, for inpaintkit.json gives it a latent" if config.latent else "only num_class_embeds is"
        raise BadInput(f"{path}: class_embed_type = {str(kind)[:80]!r} is not supported; {wanted}")
    try:
        with torch.device(device):
            network = Network(_adapted(UNet2DModel(**arguments), config), config)
    except Exception as error:  # the config is foreign input, and diffusers raises whatever its parts raise
        said = (str(error).splitlines() or [""])[0][:120]
        raise BadInput(f"{path}: no network can be built from it ({type(error).__name__}: {said})") from None
    _compare_channels(path, network)
    return network


def _adapted(unet: Any, config: NetworkConfig) -> Any:
    """What `UNet2DModel`'s own configuration cannot say: heads whose number is the same at every width, and a width of the
    time embedding that is not that of the first level. Raises `ValueError`."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.embeddings import TimestepEmbedding, Timesteps

    if (heads := config.heads) is not None:
        for layer in (layer for layer in unet.modules() if isinstance(layer, Attention)):
            if layer.inner_dim % heads:
                raise ValueError(f"{heads} heads do not divide {layer.inner_dim} channels")
            layer.heads, layer.scale = heads, (layer.inner_dim // heads) ** -0.5
    if config.time_channels:
        if unet.config.time_embedding_type != "positional":
            raise ValueError("time_channels belongs to a positional time embedding")
        unet.time_proj = Timesteps(config.time_channels, unet.config.flip_sin_to_cos, unet.config.freq_shift)
        unet.time_embedding = TimestepEmbedding(config.time_channels, unet.time_embedding.linear_2.out_features)
    return unet


def _compare_channels(path: Path, network: Network) -> None:
    """Raise `BadInput` when the network's inputs or outputs, or its largest window, are not what its config says (one that comes
    without `inpaintkit.json` is taken for a plain network)."""
    config, unet = network.config, settings(network)
    wanted, outputs = inputs(config, channels(network)), channels(network) * config.patch**2
    if unet["in_channels"] != wanted:
        raise BadInput(f"{path}: in_channels = {unet['in_channels']}, inpaintkit.json asks for {wanted}")
    if unet["out_channels"] not in (outputs, 2 * outputs):
        raise BadInput(
            f"{path}: out_channels = {unet['out_channels']}, its pictures need {outputs}, or {2 * outputs} with a learned spread"
        )
    if config.largest % multiple(network):
        raise BadInput(
            f"{path}: largest = {config.largest} in inpaintkit.json must be a multiple of {multiple(network)}, the network's step"
        )
