"""What a denoising network finds in a picture: the activations of its encoder, as features to compare pictures by."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from inpaintkit.models.unet import Network

TIME = 20.0
"""The network's own time index at which it is shown a clean picture, of 1000: low, so that fine texture counts."""


def features(network: Network, picture: Tensor) -> list[Tensor]:
    """Activations `(B, C_i, H_i, W_i)`, float32, after every layer of the encoder and after the middle block, told nothing.

    picture is `(B, C, H, W)` in [-1, 1]; its sides are multiples of `multiple(network)`. Gradients pass. A network that wants
    classes is not meant here.
    """
    unet: Any = network.unet
    time = torch.full((len(picture),), TIME * network.config.time_scale, device=picture.device)
    emb = unet.time_embedding(unet.time_proj(time).to(picture.dtype))
    x = unet.conv_in(network.stacked(picture, torch.zeros_like(picture[:, :1]), picture))
    found: list[Tensor] = []
    for block in unet.down_blocks:
        x, layers = block(hidden_states=x, temb=emb)
        found += layers
    return [layer.float() for layer in [*found, unet.mid_block(x, emb)]]


def distance(network: Network, picture: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """`(B,)`: squared distance between the two pictures' features, brought to unit length over channels, a mean over the layers and
    the positions `where` `(B, 1, H, W)` is not 0 (the form of Zhang et al. 2018, LPIPS, eq. 1, with all channel weights 1; features
    of a denoising network instead of a classifier after Lin and Yang 2024, Diffusion Model with Perceptual Loss)."""
    with torch.no_grad():
        wanted = features(network, truth)
    gaps = []
    for mine, theirs in zip(features(network, picture), wanted, strict=True):
        weight = F.adaptive_max_pool2d(where, mine.shape[2:])
        gap = (F.normalize(mine) - F.normalize(theirs)).square().sum(1, keepdim=True)
        gaps.append((gap * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1e-6))
    return torch.stack(gaps).mean(0)
