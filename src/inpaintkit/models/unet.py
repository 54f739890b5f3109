"""Networks: diffusers' `UNet2DModel` with what inpainting adds around it, described by one small config.

A `Network` takes a noisy picture, the network's own time index and, when it is mask-conditioned, where the hole is and
the known colours. Everything a foreign reader must know to call it (channel order, mask polarity, what the colour
channels hold inside the hole, space-to-depth) is in its `NetworkConfig`, stored beside the weights.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.settings import Settings

Channel = Literal["x_t", "mask", "colors"]


@dataclass(frozen=True)
class Condition(Settings):
    """How a mask-conditioned network is told what is known."""

    order: tuple[Channel, ...] = ("x_t", "mask", "colors")
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
    default_method: dict[str, Any] = field(default_factory=lambda: {"name": "ddnm"})
    """Name and fields of the method used when none is asked for."""


class Network(nn.Module):
    """A U-Net and its config. `in_channels` of the U-Net counts all inputs times patch squared."""

    def __init__(self, unet: nn.Module, config: NetworkConfig):
        super().__init__()
        self.unet, self.config = unet, config

    def forward(self, x_t: Tensor, time: Tensor, known: Tensor, picture: Tensor, labels: Tensor | None = None) -> Tensor:
        """Raw output `(B, C or 2C, H, W)`.

        x_t and picture are `(B, C, H, W)`, known `(B, 1, H, W)` with 1 = known (all 0: nothing known), time `(B,)` the
        network's own index. H and W must be multiples of `multiple(network)`. picture is read only where known. labels
        `(B,)` are the classes of a class-conditional network.
        """
        parts = [x_t] if self.config.condition is None else self._inputs(self.config.condition, x_t, known, picture)
        x = F.pixel_unshuffle(torch.cat(parts, 1), self.config.patch)
        time = time if self.config.time_scale == 1 else time * self.config.time_scale
        told = {} if labels is None else {"class_labels": labels}
        return F.pixel_shuffle(self.unet(x, time, **told).sample, self.config.patch)

    @staticmethod
    def _inputs(condition: Condition, x_t: Tensor, known: Tensor, picture: Tensor) -> list[Tensor]:
        mask = known if condition.mask_one == "known" else 1 - known
        colors = pushpull(picture, known) if condition.fill == "pushpull" else torch.where(known > 0, picture, 0)
        parts = {"x_t": x_t, "mask": mask.expand(-1, condition.mask_channels, -1, -1), "colors": colors}
        return [parts[name] for name in condition.order]


def settings(network: Network) -> dict[str, Any]:
    """The arguments diffusers' `UNet2DModel` was made with."""
    config: Any = network.unet.config
    return {key: value for key, value in config.items() if not key.startswith("_")}


def channels(network: Network) -> int:
    """Channels of the pictures it makes: 3, but for unconditional networks of other things."""
    config = network.config
    return 3 if config.condition is not None else settings(network)["in_channels"] // config.patch**2


def classes(network: Network) -> int:
    """Classes of a class-conditional network; 0 = it takes no label."""
    return settings(network).get("num_class_embeds") or 0


def multiple(network: Network) -> int:
    """Height and width of the network's input must be multiples of this."""
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
