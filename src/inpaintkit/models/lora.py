"""Low-rank adapters (Hu et al. 2022, LoRA): W + (alpha / rank) B A, with a frozen W and a few numbers trained in A and B.

An adapter folder holds only what was trained, and names the model it belongs to by its checksum:

    folder/adapter_model.safetensors, adapter_config.json   as PEFT writes and reads them
    folder/inpaintkit.json                                  `Adapter`
    folder/scheduler/scheduler_config.json, README.md       as in a model folder

PEFT is needed to train one, not to use one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.extras import extra
from inpaintkit.core.files import write_bytes
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.core.settings import Settings, dumped
from inpaintkit.models.checkpoints import build, checked_config, read_json, scheduler_values
from inpaintkit.models.unet import Network, NetworkConfig, channels, inputs, settings, started
from inpaintkit.models.weights import read_weights, weights_bytes

WEIGHTS = "adapter_model.safetensors"
CONFIG = "inpaintkit.json"
PREFIX = "base_model.model."  # PEFT's, before every name in the file
INPUT = ("conv_in.weight", "conv_in.bias")


@dataclass(frozen=True)
class LoRA(Settings):
    """What is adapted, and how much of it."""

    rank: Annotated[int, Field(ge=1)] = 8
    """Rows of A and columns of B."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """The change is scaled by alpha / rank."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("to_q", "to_k", "to_v", "to_out.0")
    """Layers by the end of their name: those of the attention. "conv1" and "conv2" are the convolutions between."""
    train_input: bool | None = None
    """Whether the input convolution is trained too, in full; unset: when it has inputs that the base lacks."""
    merge: bool = False
    """Whether the merged model is written too, as the folder `merged` inside the adapter's."""


@dataclass(frozen=True)
class Adapter(Settings):
    """What an adapter folder says about itself."""

    base: str
    """The model it changes: a bundled name, a folder or file, or a hub id."""
    sha256: str
    """Of the base's weights."""
    lora: LoRA
    network: NetworkConfig
    """Of the network with the adapter."""

    @property
    def scale(self) -> float:
        return self.lora.alpha / self.lora.rank


class Adapted(Network):
    """A network whose weights are frozen but for the adapter, and perhaps the input convolution.

    Its state holds only what is trained, and the base's checksum: to load the state into a network on another base is refused.
    """

    digest: Tensor

    def __init__(self, network: Network, adapter: Adapter):
        """Takes `network` over. Raises `UsageError` when the adapter has nothing to adapt there."""
        peft = extra("peft", "train")
        super().__init__(network.unet, network.config)
        self.adapter = adapter
        layers(network, adapter.lora)
        lora = adapter.lora
        peft.inject_adapter_in_model(peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets)), self.unet)
        for name in INPUT:
            self.unet.get_parameter(name).requires_grad_(bool(lora.train_input))
        self.trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        self.register_buffer("digest", torch.frombuffer(bytearray.fromhex(adapter.sha256), dtype=torch.uint8))
        self.register_state_dict_post_hook(_only_trained)
        self.register_load_state_dict_pre_hook(_with_frozen)


def _only_trained(module: Any, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name, _parameter in module.named_parameters():
        if name not in module.trained:
            del state[prefix + name]


def _with_frozen(module: Any, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    stored = state.get(prefix + "digest")
    if stored is not None and not torch.equal(stored.cpu(), module.digest.cpu()):
        there = bytes(stored.tolist()).hex()
        raise BadInput(f"{module.adapter.base}: another model than the run began with (sha256 {there[:12]}...); put that one back")
    for name, parameter in module.named_parameters():
        if name not in module.trained:
            state[prefix + name] = parameter.detach()


def layers(network: Network, lora: LoRA) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers of a plain network that are adapted, by name. Raises `UsageError` for a target that names none."""
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    for target in lora.targets:
        named = {name: layer for name, layer in network.unet.named_modules() if name == target or name.endswith(f".{target}")}
        if not named or not all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in named.values()):
            raise UsageError(f"lora.targets: {target!r} names no linear layer or convolution of the network; to_q, to_out.0 or conv1 do")
        found |= named
    if lora.train_input and "conv_in" in found:
        raise UsageError("lora.targets: conv_in is trained in full already; leave it out, or set lora.train_input = false")
    return found


def tensors(network: Adapted) -> dict[str, Tensor]:
    """What was trained, by its name in the file: `NAME.lora_A.weight`, `NAME.lora_B.weight`, and the input convolution."""
    state = {name: value for name, value in network.state_dict().items() if name != "digest"}
    return {_stored(name): value.detach().to("cpu", torch.float32) for name, value in state.items()}


def _stored(name: str) -> str:
    """What a parameter of an `Adapted` is called in the file."""
    return PREFIX + name.removeprefix("unet.").replace(".default.", ".")


def save(folder: Path, network: Adapted, schedule: NoiseSchedule, card: str) -> None:
    """Write an adapter folder. The weights are written last."""
    adapter, lora = network.adapter, network.adapter.lora
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    theirs = {
        **{"peft_type": "LORA", "base_model_name_or_path": adapter.base, "r": lora.rank, "lora_alpha": lora.alpha, "bias": "none"},
        **{"target_modules": list(lora.targets), "modules_to_save": ["conv_in"] if lora.train_input else None, "inference_mode": True},
    }
    scheduler = scheduler_values(schedule, network.config.prediction, network.config.clamp)
    for name, values in ((CONFIG, dumped(adapter)), ("adapter_config.json", theirs), ("scheduler/scheduler_config.json", scheduler)):
        write_bytes(folder / name, (json.dumps(values, indent=1) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())
    write_bytes(folder / WEIGHTS, weights_bytes({k: v.contiguous() for k, v in tensors(network).items()}))


def holds(folder: Path) -> bool:
    """Whether a folder holds an adapter instead of a model."""
    return (folder / "adapter_config.json").is_file()


def read(folder: Path) -> Adapter:
    """What an adapter folder says about itself. Raises `BadInput`."""
    if not (folder / CONFIG).is_file():
        raise BadInput(
            f"{folder}: an adapter without {CONFIG}, which says what it adapts; only adapters made by `inpaintkit train` are read"
        )
    return checked_config(Adapter, folder / CONFIG, read_json(folder / CONFIG))


def load(folder: Path, base: Network, sha256: str) -> Network:
    """The base with the adapter of a folder merged in, float32 on the CPU. sha256: of the base's weights.

    Raises `BadInput` for another base than the adapter was trained on, or for weights that do not fit.
    """
    adapter = read(folder)
    if sha256 != adapter.sha256:
        both = f"sha256 {adapter.sha256[:12]}... when it was trained, {sha256[:12]}... now"
        raise BadInput(f"{folder}: fits {adapter.base} as it was, not as it is ({both}); put that model back")
    try:
        network = _widened(base, adapter.network)
        expected = _expected(network, adapter.lora)
    except UsageError as error:
        raise BadInput(f"{folder / CONFIG}: {error}") from None
    return _merged(network, read_weights(folder / WEIGHTS, expected), adapter)


def restore(network: Adapted, folder: Path) -> None:
    """Give the adapter of `network` the values in a folder, to be trained on. Raises `BadInput`."""
    found = read_weights(folder / WEIGHTS, {name: value.to("meta") for name, value in tensors(network).items()})
    network.load_state_dict({name: found[_stored(name)] for name in network.state_dict() if name != "digest"} | {"digest": network.digest})


def merged(network: Adapted) -> Network:
    """A plain network that computes the same, float32 on the CPU."""
    state = {name.replace(".base_layer.", "."): value.detach().to("cpu") for name, value in network.unet.named_parameters()}
    plain = build(Path(network.adapter.base), settings(network), network.config)
    plain.unet.load_state_dict({name: state[name].clone() for name in plain.unet.state_dict()}, assign=True)
    return _merged(plain, tensors(network), network.adapter)


def _widened(base: Network, config: NetworkConfig) -> Network:
    """A copy of the base with the inputs that `config` asks for, those it does not have at zero weight."""
    arguments = settings(base) | {"in_channels": inputs(config, channels(base))}
    return started(build(Path(CONFIG), arguments, config), base)


def _expected(network: Network, lora: LoRA) -> dict[str, Tensor]:
    """Tensors of the names and shapes of an adapter, without memory."""
    expected = {}
    for name, layer in layers(network, lora).items():
        out, into, *kernel = layer.weight.shape
        expected[f"{PREFIX}{name}.lora_A.weight"] = torch.empty(lora.rank, into, *kernel, device="meta")
        expected[f"{PREFIX}{name}.lora_B.weight"] = torch.empty(out, lora.rank, *[1 for _ in kernel], device="meta")
    if lora.train_input:
        expected |= {PREFIX + name: network.unet.get_parameter(name) for name in INPUT}
    return expected


def _merged(network: Network, trained: dict[str, Tensor], adapter: Adapter) -> Network:
    """The plain network with an adapter's tensors put into its weights."""
    with torch.no_grad():
        for name, layer in layers(network, adapter.lora).items():
            low, high = (trained[f"{PREFIX}{name}.lora_{part}.weight"].flatten(1) for part in "AB")
            layer.weight += adapter.scale * (high @ low).view_as(layer.weight)
        for name in INPUT:
            if PREFIX + name in trained:
                network.unet.get_parameter(name).copy_(trained[PREFIX + name])
    return network.eval().requires_grad_(False)
