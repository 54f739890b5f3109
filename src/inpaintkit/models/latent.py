"""The latent of a generator: random numbers z per picture that decide, among all pictures that fit, which one is made."""

import torch
from torch import Tensor, nn


class Mapping(nn.Module):
    """From z `(B, latent)` to what is added to the time embedding `(B, width)`.

    With the scale-shift norm of the U-Net this is an adaptive group norm by z (Xiao et al. 2022, section 4; the mapping
    network is that of Karras et al. 2019, StyleGAN, section 2: z is brought to unit length, then fully connected layers).
    """

    def __init__(self, latent: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.layers(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
        return out

    def quieten(self, share: float) -> None:
        """Scale the last layer: at 0 z has no effect yet, and the network is what it was without z."""
        with torch.no_grad():
            for parameter in self.layers[-1].parameters():
                parameter.mul_(share)
