"""A denoising network, unconditional or mask-conditioned: predicts x0, eps or v; from nothing, from a model, or as an adapter of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from inpaintkit.core import schedule as schedules
from inpaintkit.core.errors import UsageError
from inpaintkit.core.noise import Noise
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, State, sample
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.models import catalog
from inpaintkit.models.checkpoints import build
from inpaintkit.models.denoisers import NetworkDenoiser
from inpaintkit.models.lora import LoRA
from inpaintkit.models.unet import Network, NetworkConfig, channels, has_spread, inputs, multiple, settings, started
from inpaintkit.train import losses
from inpaintkit.train.adapters import adapted, export
from inpaintkit.train.levels import check_default, check_start, refuse_channels, refuse_classes, shown
from inpaintkit.train.task import Item, Task

SHARES = (0.9, 0.5, 0.1, 0.01)
"""Shares of signal variance at which the error of x0 is compared, whatever the schedule."""


@dataclass(frozen=True)
class Denoise(Task):
    """Weighted squared error of what the network predicts (Ho et al. 2020, eq. 14, and its x0 and v forms)."""

    network: NetworkConfig
    unet: dict[str, Any] = field(default_factory=dict)
    """Arguments of diffusers' UNet2DModel. Those not given are those of `start`; the channels in and out follow from the rest."""
    kind: Literal["denoise"] = "denoise"
    start: str | None = None
    """Model (bundled name, folder, file or hub id) whose weights to start from; inputs it does not have start at zero weight."""
    lora: LoRA | None = None
    """Present: the weights of `start` stay as they are, and a small adapter is trained."""
    schedule: Literal["linear", "cosine", "scaled_linear"] = "cosine"
    T: Annotated[int, Field(ge=1, le=100_000)] = 1000
    weighting: losses.Weighting = "min-snr"
    """plain: the squared error of what is predicted. min-snr: that of x0, times the clipped signal-to-noise ratio."""
    snr_clip: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] = (0.0, 5.0)
    """Bounds of the ratio (Hang et al. 2023, min-SNR, has 0 and 5; a floor helps networks that predict x0)."""
    known_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the error on known pixels; 1: the loss is on all pixels, 0: on the hole."""
    learned_variance: bool = False
    """Whether the network predicts the variance of each move too (Nichol and Dhariwal 2021, section 3.1)."""
    vlb_weight: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the variational bound, which teaches the variance (their eq. 16)."""

    @property
    def levels(self) -> NoiseSchedule:
        return schedules.named(self.schedule, self.T)

    def build(self, seed: int) -> dict[str, nn.Module]:
        self._check()
        start = catalog.load(self.start) if self.start else None
        arguments = self._arguments(None if start is None else self._startable(start))
        with torch.random.fork_rng(devices=[]):  # the generator is global inside torch's layers
            torch.manual_seed(seed)
            network = build(Path("task.unet"), arguments, self.network, "cpu")
            refuse_classes(network)
            if start is None:
                return {"network": network}
            network = started(network, start.unet)
            if self.lora is not None:
                network = adapted(network, str(self.start), start, self.lora, self.network)
            return {"network": network}

    def multiple(self, networks: Mapping[str, nn.Module]) -> int:
        network = networks["network"]
        assert isinstance(network, Network)
        return multiple(network)

    def item(self, example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Item:
        t = int(rng.integers(1, self.T + 1))
        noise = rng.standard_normal(example["x0"].shape, dtype=np.float32)
        tensors = {"x0": example["x0"], "known": example["known"], "noise": noise}
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()} | {"t": torch.tensor(t)}

    def loss(self, role: str, networks: Mapping[str, nn.Module], batch: Item) -> tuple[Tensor, dict[str, Tensor]]:
        x0, noise, t, kind = batch["x0"], batch["noise"], batch["t"], self.network.prediction
        x_t = self.levels.noised(x0, t, noise)
        value, spread = self._out(networks[role], x_t, batch)
        pixel = self.known_weight * batch["known"] + (1 - batch["known"])
        simple = losses.squared(kind, self.weighting, self.levels, self.snr_clip, value, x0, noise, t, pixel)
        if spread is None:
            return simple, {}
        predicted = self._clamped(self.levels.x0_from(kind, x_t, value.detach(), t))  # the bound teaches the variance alone
        bound = self.T * (pixel * self.levels.bound(x0, x_t, predicted, spread, t)).mean()  # a sum over levels, of which t is one
        return simple + self.vlb_weight * bound, {"simple": simple, "bound": bound}

    def validate(self, networks: Mapping[str, nn.Module], batch: Item) -> dict[str, Tensor]:
        """The loss, and an error that compares runs of other schedules, predictions and weightings: the squared error of x0 in the
        hole, a mean over fixed shares of signal. Told networks see the known pixels."""
        hole, errors = 1 - batch["known"], []
        for share in SHARES:
            t = torch.full_like(batch["t"], self.levels.nearest(share))
            x_t = self.levels.noised(batch["x0"], t, batch["noise"])
            value, _ = self._out(networks["network"], x_t, batch | {"t": t})
            predicted = self._clamped(self.levels.x0_from(self.network.prediction, x_t, value, t))
            errors.append(((predicted - batch["x0"]).square() * hole).sum() / (hole.sum() * x_t.shape[1]).clamp(min=1))
        return {**super().validate(networks, batch), "x0_error": torch.stack(errors).mean()}

    def samples(self, networks: Mapping[str, nn.Module], batch: Item) -> Tensor:
        """A told network: what is known, the fill and the truth, side by side; any other: pictures of its own."""
        network, x0, known, method = networks["network"], batch["x0"], batch["known"], shown(self.levels)
        assert isinstance(network, Network)
        told = network.config.condition is not None
        denoiser = NetworkDenoiser(network, self.levels, len(x0))
        context = Context(
            denoiser.told(known, x0) if told else denoiser, Known(known), x0, Noise([0] * len(x0)), method.walk.levels(self.levels)
        )
        *_, last = sample(method, method.walk.times(self.levels), State(context.first, batch["noise"]), context)
        made = last.x.clamp(-1, 1)
        return torch.cat([x0 * known, torch.where(known > 0, x0, made), x0], 3) if told else made

    def export(self, folder: Path, networks: Mapping[str, nn.Module], card: str) -> None:
        network = networks["network"]
        assert isinstance(network, Network)
        export(folder, network, self.levels, card)

    def _check(self) -> None:
        losses.check(self.network.prediction, self.weighting, self.snr_clip)
        if self.learned_variance and (self.T == 1 or not self.network.clamp):
            raise UsageError("task.learned_variance: its bound is that of 8-bit pictures in 2 or more levels; leave it out")
        if self.lora is not None and self.start is None:
            raise UsageError("task.lora: adapts a model; name it with task.start")
        if self.network.latent:
            raise UsageError('task.network.latent: only a generator (kind = "gan") has a latent; leave it out')
        check_default(self.network.default_method, self.levels)

    def _startable(self, start: catalog.Model) -> Network:
        """The network to start from. Raises `UsageError` for one that this task cannot go on with."""
        check_start(self.start, start, self.levels)
        network = start.unet
        if self.lora is not None and has_spread(network) != self.learned_variance:
            raise UsageError(
                f"task.lora: the outputs stay those of {self.start}; set task.learned_variance = {str(has_spread(network)).lower()}"
            )
        return network

    def _arguments(self, start: Network | None) -> dict[str, Any]:
        """Of UNet2DModel."""
        area = self.network.patch**2
        stated = 3 if self.network.condition else self.unet.get("in_channels", 3 * area) // area  # fields have other channels
        colors = stated if start is None else channels(start)
        mine = {"in_channels": inputs(self.network, colors), "out_channels": (1 + self.learned_variance) * colors * area}
        refuse_channels(self.unet, mine)
        return ({} if start is None else settings(start)) | self.unet | mine

    def _out(self, network: nn.Module, x_t: Tensor, batch: Item) -> tuple[Tensor, Tensor | None]:
        """What the network predicts in float32, and its spread or None."""
        out = network(x_t, batch["t"] - 1, batch["known"], batch["x0"]).float()
        return (out[:, : x_t.shape[1]], out[:, x_t.shape[1] :]) if self.learned_variance else (out, None)

    def _clamped(self, x0: Tensor) -> Tensor:
        """As when sampling."""
        return x0.clamp(-1, 1) if self.network.clamp else x0
