"""Weights and a picture that any two implementations of a network can be given, so that their outputs can be compared."""

import zlib

import numpy as np
import torch
from torch import Tensor, nn


def seeded(network: nn.Module) -> nn.Module:
    """`network` in float64 and evaluation mode, each tensor drawn from a generator seeded with its name, so that variances stay near 1."""
    state = {}
    for key, old in network.state_dict().items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        if key.endswith("num_batches_tracked"):
            continue
        if old.ndim > 1:
            values = rng.standard_normal(old.shape) * np.sqrt(2 / np.prod(old.shape[1:]))
        elif key.endswith("bias") or key.endswith("running_mean"):
            values = rng.standard_normal(old.shape) * 0.1
        else:
            values = rng.uniform(0.5, 1.5, old.shape)
        state[key] = torch.from_numpy(values)
    network = network.double()
    network.load_state_dict(state, strict=False)
    return network.eval().requires_grad_(False)


def picture(size: int, seed: int = 0) -> Tensor:
    """(1, 3, size, size) float64 in [-1, 1]."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (1, 3, size, size)))


def summary(x: Tensor) -> list[float]:
    """Mean, root mean square and six of the numbers of x."""
    flat = x.detach().flatten()
    return [float(v) for v in (flat.mean(), flat.square().mean().sqrt(), *flat[torch.linspace(0, len(flat) - 1, 6).long()])]
