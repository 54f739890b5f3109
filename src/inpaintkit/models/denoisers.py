"""Networks as denoisers: called with a level of the schedule, they return the clean picture.

The network of the field counts time from 0, ours counts levels from 1: the one place where one is subtracted is here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from inpaintkit.core.noise import Noise
from inpaintkit.core.sampler import Denoiser
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.models.control import ControlNetwork
from inpaintkit.models.unet import AnyNetwork, multiple


@dataclass
class Calls:
    """Evaluations of the network: one for each picture, or window of one, at each call."""

    forward: int = 0
    backward: int = 0


@dataclass(frozen=True)
class NetworkDenoiser:
    """A `Network` as the `Denoiser` of the sampling loop.

    The network is always called with exactly `micro_batch` pictures (the last call padded), because kernels differ in the
    last bits between batch sizes: a picture's bytes must not depend on its batch mates.
    """

    network: AnyNetwork
    schedule: NoiseSchedule
    micro_batch: int = 1
    known: Tensor | None = None
    """`(B, 1, H, W)`, 1 = known, of a told network; None: it is told that nothing is known."""
    picture: Tensor | None = None
    """`(B, C, H, W)`, read only where known."""
    labels: Tensor | None = None
    """`(S,)` classes for a class-conditional network; a batch holds a whole number of S pictures in this order."""
    noise: Noise | None = None
    """Where a generator's latent comes from (stream "z"), anew at each call; a batch holds a whole number of times its pictures
    in their order. None: the latent is 0."""
    frugal: bool = False
    """Where a gradient is asked for: keep the activations of one micro-batch only, and compute them again on the way back."""
    calls: Calls = field(default_factory=Calls)

    @property
    def clamp(self) -> bool:
        return self.network.config.clamp

    @property
    def conditioned(self) -> bool:
        """Whether the network can be told known pixels."""
        return self.network.config.condition is not None

    @property
    def multiple(self) -> int:
        return multiple(self.network)

    def told(self, known: Tensor, picture: Tensor) -> "NetworkDenoiser":
        """The same network, told these known pixels; known `(B, 1, H, W)`, picture `(B, C, H, W)`."""
        return replace(self, known=known, picture=torch.where(known > 0, picture, 0))

    def untold(self) -> "NetworkDenoiser":
        """The same network, told nothing."""
        return replace(self, known=None, picture=None)

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """(x0, spread or None) for x `(B, C, H, W)`, H and W multiples of `multiple`, at level t in 1..T."""
        if not 1 <= t <= self.schedule.T:
            raise ValueError(f"a network predicts at levels 1..{self.schedule.T}, not {t}")
        known = torch.zeros_like(x[:, :1]) if self.known is None else self.known
        picture = self._nothing(x) if self.picture is None else self.picture
        told = self._told(len(x))
        call = self._again if self.frugal and torch.is_grad_enabled() else self._network
        chunks = _chunks((x, known, picture, *told.values()), self.micro_batch)
        counts = [min(self.micro_batch, len(x) - i * self.micro_batch) for i in range(len(chunks))]
        out = torch.cat([call(count, t, tuple(told), *chunk) for count, chunk in zip(counts, chunks, strict=True)])[: len(x)].to(x.dtype)
        out = torch.where(out.isfinite(), out, torch.nan)  # a sampler's clamp would make an ordinary value of infinity
        value, spread = out.split(x.shape[1], 1) if out.shape[1] == 2 * x.shape[1] else (out, None)
        return self.schedule.x0_from(self.network.config.prediction, x, value, t), spread

    def _again(self, *call: Any) -> Tensor:
        with set_checkpoint_early_stop(False):  # a whole evaluation, as it is counted
            out = checkpoint(self._network, *call, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(out, Tensor)
        return out

    def _nothing(self, x: Tensor) -> Tensor:
        count = self.network.config.cond_channels if isinstance(self.network, ControlNetwork) else x.shape[1]
        return torch.zeros_like(x[:, :1]).expand(-1, count, -1, -1)

    def _told(self, count: int) -> dict[str, Tensor]:
        """What else `count` pictures, or windows of them, are told, by its name in `Network.forward`."""
        told = {} if self.labels is None else {"labels": self.labels}
        if isinstance(self.network, ControlNetwork):
            told["given"] = torch.tensor([0.0 if self.known is None else 1.0])
        elif (latent := self.network.config.latent) and self.noise is not None:
            told["z"] = self.noise.draw("z", (latent,)).to(next(self.network.parameters()).dtype)
        return {name: values.repeat(count // len(values), *[1] * (values.ndim - 1)) for name, values in told.items()}

    def _network(self, count: int, t: int, names: Sequence[str], x: Tensor, known: Tensor, picture: Tensor, *told: Tensor) -> Tensor:
        """One call of the network; `count` of the pictures are not padding, `names` are those of what it is `told`."""
        self.calls.forward += count
        weights = next(self.network.parameters())
        time = torch.full((len(x),), t - 1, device=weights.device)
        inputs = [part.to(weights.device, weights.dtype) for part in (x, known, picture)]
        out = self.network(inputs[0], time, *inputs[1:], **{name: part.to(weights.device) for name, part in zip(names, told, strict=True)})
        if out.requires_grad:
            out.register_hook(lambda _: setattr(self.calls, "backward", self.calls.backward + count))
        return out.to(x.device)


@dataclass(frozen=True)
class Tiled:
    """A denoiser for a region larger than the network's window: overlapping windows, their x0 averaged with smooth weights.

    All windows share one x_t, so they agree at every step (MultiDiffusion, Bar-Tal et al. 2023, eq. 5, on x0). Pixels no
    window covers are known ones; there x0 is `rest`.
    """

    inner: Denoiser
    """Told, or untold, for the stacked windows: picture b of window k is number `k B + b`."""
    windows: Sequence[tuple[int, int]]
    """Top-left corners."""
    size: tuple[int, int]
    """Height and width of every window."""
    rest: Tensor
    """`(B, C, H, W)`: the known picture."""

    @property
    def schedule(self) -> NoiseSchedule:
        return self.inner.schedule

    @property
    def clamp(self) -> bool:
        return self.inner.clamp

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        x0s, spreads = self.inner(crops(x, self.windows, self.size), t)
        return self._joined(x0s, len(x), self.rest), None if spreads is None else self._joined(spreads, len(x), torch.zeros_like(self.rest))

    def _joined(self, parts: Tensor, batch: int, rest: Tensor) -> Tensor:
        h, w = self.size
        weight = _hat(h, parts)[:, None] * _hat(w, parts)
        total, weights = torch.zeros_like(rest), torch.zeros_like(rest[:1, :1])
        for k, (i, j) in enumerate(self.windows):
            total[..., i : i + h, j : j + w] += weight * parts[k * batch : (k + 1) * batch]
            weights[..., i : i + h, j : j + w] += weight
        return torch.where(weights > 0, total / weights.clamp(min=1e-12), rest)


def crops(x: Tensor, windows: Sequence[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """The windows of x `(B, C, H, W)` stacked along the batch, in the order `Tiled` expects."""
    return torch.cat([x[..., i : i + size[0], j : j + size[1]] for i, j in windows])


def _hat(n: int, like: Tensor) -> Tensor:
    """Weights that fall linearly from the middle of a window to its border, never zero."""
    place = torch.arange(n, dtype=like.dtype, device=like.device)
    return torch.minimum(place + 1, n - place)


def _chunks(tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """The tensors in pieces of exactly `size` along the batch, the last one padded with copies of its last picture."""
    count = len(tensors[0])
    pieces = []
    for begin in range(0, count, size):
        index = torch.arange(begin, begin + size).clamp(max=count - 1)
        pieces.append([tensor[index.to(tensor.device)] for tensor in tensors])
    return pieces
