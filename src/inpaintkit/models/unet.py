"""Networks: diffusers' `UNet2DModel` with what inpainting adds around it, described by one small config.

A `Network` takes a noisy picture, the network's own time index and, when it is mask-conditioned, where the hole is and
the known colours. Everything a foreign reader must know to call it (channel order, mask polarity, what the colour
channels hold inside the hole, space-to-depth) is in its `NetworkConfig`, stored beside the weights.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import Settings
from inpaintkit.models.control import ControlNetwork
from inpaintkit.models.latent import Mapping

Channel = Literal["x_t", "mask", "colors"]
METHOD = {"name": "ddnm"}
"""Default method of a network that names none."""


def _once(order: tuple[Channel, ...]) -> tuple[Channel, ...]:
    if len(set(order)) < len(order) or "x_t" not in order:
        raise ValueError("names x_t, and each of its parts once")
    return order


@dataclass(frozen=True)
class Condition(Settings):
    """How a mask-conditioned network is told what is known."""

    order: Annotated[tuple[Channel, ...], AfterValidator(_once)] = ("x_t", "mask", "colors")
    """Order of the inputs along the channels."""
    mask_channels: Annotated[int, Field(ge=1, le=3)] = 3
    """How often the mask channel is repeated (3 in the nine-channel network)."""
    mask_one: Literal["hole", "known"] = "hole"
    """What the value 1 in the mask channels means."""
    fill: Literal["zero", "pushpull"] = "zero"
    """What the colour channels hold inside the hole: 0 (mid-grey), or the known colours extended by a push-pull pyramid."""


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """What the weights alone cannot say about a network."""

    prediction: Literal["x0", "eps", "v"] = "eps"
    """What the network's output means."""
    patch: Annotated[int, Field(ge=1, le=8)] = 1
    """Space-to-depth factor: the network sees patch x patch pixels as channels of one position."""
    condition: Condition | None = None
    """Present when the network is mask-conditioned."""
    clamp: bool = True
    """Whether x0 is bounded to [-1, 1] (pictures yes, physical fields no)."""
    size: Annotated[int, Field(ge=1)] = 64
    """Side of the pictures it was trained on, pixels."""
    largest: Annotated[int, Field(ge=1)] = 256
    """Longest side of a window it is run on in one piece, pixels."""
    heads: Annotated[int, Field(ge=1)] | None = None
    """Attention heads at every width; None: as many as `attention_head_dim` of the U-Net's configuration gives."""
    time_channels: Annotated[int, Field(ge=2)] | None = None
    """Width of the time embedding's input, when it is not that of the first level."""
    time_scale: Annotated[float, Field(gt=0)] = 1.0
    """The network is told the time times this (improved-diffusion: 1000 / T)."""
    latent: Annotated[int, Field(ge=0, multiple_of=8)] = 0
    """Random numbers z that a generator is given with each picture; 0: it takes none. A multiple of 8, because in matrix
    products of other widths the last bits depend on a picture's place in the batch."""
    default_method: dict[str, Any] = field(default_factory=METHOD.copy)
    """Name and fields of the method used when none is asked for."""


class Network(nn.Module):
    """A U-Net and its config. `in_channels` of the U-Net counts all inputs times patch squared."""

    def __init__(self, unet: nn.Module, config: NetworkConfig):
        super().__init__()
        self.unet, self.config = unet, config
        embedding: Any = getattr(unet, "time_embedding", None)
        self.mapping = Mapping(config.latent, embedding.linear_2.out_features) if config.latent else None

    def forward(
        self, x_t: Tensor, time: Tensor, known: Tensor, picture: Tensor, labels: Tensor | None = None, z: Tensor | None = None
    ) -> Tensor:
        """Raw output `(B, C or 2C, H, W)`.

        x_t and picture are `(B, C, H, W)`, known `(B, 1, H, W)` with 1 = known (all 0: nothing known), time `(B,)` the
        network's own index. H and W must be multiples of `multiple(network)`. picture is read only where known. labels
        `(B,)` are the classes of a class-conditional network, z `(B, latent)` the unit Gaussian latent of a generator (None: 0).
        """
        x = self.stacked(x_t, known, picture)
        time = time if self.config.time_scale == 1 else time * self.config.time_scale
        told = {} if labels is None else {"class_labels": labels}
        if self.mapping is not None:
            told["class_labels"] = self.mapping(x_t.new_zeros(len(x_t), self.config.latent) if z is None else z)
        return F.pixel_shuffle(self.unet(x, time, **told).sample, self.config.patch)

    def stacked(self, x_t: Tensor, known: Tensor, picture: Tensor) -> Tensor:
        """What the U-Net itself is given, `(B, in_channels, H / patch, W / patch)`."""
        parts, condition = [x_t], self.config.condition
        if condition is not None:
            mask = known if condition.mask_one == "known" else 1 - known
            colors = pushpull(picture, known) if condition.fill == "pushpull" else torch.where(known > 0, picture, 0)
            named = {"x_t": x_t, "mask": mask.expand(-1, condition.mask_channels, -1, -1), "colors": colors}
            parts = [named[name] for name in condition.order]
        return F.pixel_unshuffle(torch.cat(parts, 1), self.config.patch)


AnyNetwork = Network | ControlNetwork


FREE = ("in_channels", "out_channels", "sample_size", "dropout", "class_embed_type")
"""Arguments of the U-Net in which a network may differ from the one it starts from."""


def started(network: Network, other: Network) -> Network:
    """`network` with the weights of `other`, which may have fewer inputs: those it does not have begin at zero weight, so that at
    first both compute the same (the nine-channel start). A learned spread that only one of them has begins at zero, half-way
    between its ends, or is left out. Raises `UsageError` when anything else differs."""
    mine, theirs = _meaning(network), _meaning(other)
    for name in sorted(mine.keys() & theirs.keys()):
        if mine[name] != theirs[name]:
            raise UsageError(f"start: its network has {name} = {theirs[name]}, this one {mine[name]}; give task.{name} as it has it")
    new, weights = network.unet.state_dict(), {key: tensor.clone() for key, tensor in other.unet.state_dict().items()}
    weights["conv_in.weight"] = _with_new_inputs(weights["conv_in.weight"], _places(network), _places(other))
    if channels(network) == channels(other):
        weights |= {key: _with_outputs(new[key], weights[key]) for key in ("conv_out.weight", "conv_out.bias")}
    for key in new.keys() | weights.keys():
        if key not in new or key not in weights or new[key].shape != weights[key].shape:
            raise UsageError(f"start: its network differs at {key}; give task.unet the same widths, layers and blocks")
    network.unet.load_state_dict(weights, assign=True)
    return network


def _meaning(network: Network) -> dict[str, Any]:
    """What two networks must agree in to compute the same with the same weights; equal shapes would hide a difference."""
    config = network.config
    values = {f"network.{name}": getattr(config, name) for name in ("prediction", "patch", "heads", "time_channels", "time_scale")}
    if config.condition is not None:
        values |= {f"network.condition.{name}": getattr(config.condition, name) for name in ("mask_one", "fill")}
    arguments = {name: value for name, value in settings(network).items() if name not in FREE}
    return values | {f"unet.{name}": list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def _places(network: Network) -> list[str]:
    """What each input channel of the U-Net holds: part, channel and position in the patch."""
    condition, colors = network.config.condition, channels(network)
    counts = {"x_t": colors, "colors": colors, "mask": condition.mask_channels if condition else 0}
    parts = [f"{part}.{i}" for part in (condition.order if condition else ("x_t",)) for i in range(counts[part])]
    return [f"{part}.{cell}" for part in parts for cell in range(network.config.patch**2)]  # the order of pixel_unshuffle


def _with_new_inputs(old: Tensor, places: list[str], old_places: list[str]) -> Tensor:
    if missing := set(old_places) - set(places):
        raise UsageError(f"start: its network is told {min(missing).split('.')[0]}, this one is not; add it to task.network.condition")
    weight = old.new_zeros(old.shape[0], len(places), *old.shape[2:])
    weight[:, [places.index(place) for place in old_places]] = old
    return weight


def _with_outputs(new: Tensor, old: Tensor) -> Tensor:
    """As many outputs as `new` has: the mean comes first, a spread behind it is left out or begins at zero."""
    extra = old.new_zeros(max(len(new) - len(old), 0), *old.shape[1:])
    return torch.cat([old, extra])[: len(new)]


def settings(network: Network) -> dict[str, Any]:
    """The arguments diffusers' `UNet2DModel` was made with."""
    config: Any = network.unet.config
    return {key: value for key, value in config.items() if not key.startswith("_")}


def channels(network: AnyNetwork) -> int:
    """Channels of the pictures it makes: 3, but for unconditional networks of other things, and networks of fields."""
    if isinstance(network, ControlNetwork):
        return network.config.channels
    config = network.config
    return 3 if config.condition is not None else settings(network)["in_channels"] // config.patch**2


def inputs(config: NetworkConfig, colors: int = 3) -> int:
    """Input channels of the U-Net for pictures of so many channels."""
    parts = {"x_t": colors, "colors": colors, "mask": config.condition.mask_channels if config.condition else 0}
    return config.patch**2 * sum(parts[name] for name in (config.condition.order if config.condition else ("x_t",)))


def has_spread(network: Network) -> bool:
    """Whether it predicts a learned variance too."""
    return int(settings(network)["out_channels"]) == 2 * channels(network) * network.config.patch**2


def classes(network: AnyNetwork) -> int:
    """Classes of a class-conditional network; 0 = it takes no label."""
    if isinstance(network, ControlNetwork):
        return 0
    return settings(network).get("num_class_embeds") or 0


def multiple(network: AnyNetwork) -> int:
    """Height and width of the network's input must be multiples of this."""
    if isinstance(network, ControlNetwork):
        return network.multiple
    return network.config.patch * 2 ** (len(settings(network)["block_out_channels"]) - 1)


def pushpull(picture: Tensor, known: Tensor) -> Tensor:
    """Extend known colours into the unknown: known-weighted 2x2 means down to one pixel, bilinear back up.

    picture `(B, C, H, W)`, known `(B, 1, H, W)`; known values are kept, nothing known gives 0. An input to the network
    only, never an output (after the pull-push pyramid of Gortler et al. 1996, The Lumigraph, section 3.4).
    """
    picture = torch.where(known > 0, picture, 0)  # whatever it holds elsewhere, NaN too
    if max(picture.shape[2:]) == 1:
        return picture
    share = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(picture, 2, ceil_mode=True, count_include_pad=False) / share.clamp(min=1e-6)
    coarse = pushpull(mean, (share > 0).to(known.dtype))
    return picture + (1 - known) * F.interpolate(coarse, picture.shape[2:], mode="bilinear", align_corners=False)
