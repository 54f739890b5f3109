"""The conditional network with a control encoder, for classifier-free guidance: masked pictures, and fields from measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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
from inpaintkit.models import control_folders
from inpaintkit.models.control import ControlConfig, ControlNetwork, Units
from inpaintkit.models.denoisers import NetworkDenoiser
from inpaintkit.train import losses
from inpaintkit.train.levels import check_default, shown
from inpaintkit.train.task import Item, Task


@dataclass(frozen=True)
class Control(Task):
    """Weighted squared error of what the network predicts (Ho et al. 2020, eq. 14), the condition dropped now and then (Ho and
    Salimans 2022, algorithm 1), so that one network is the conditional and the unconditional one."""

    kind: Literal["control"] = "control"
    network: ControlConfig = field(default_factory=ControlConfig)
    """Its channels, size, clamp and units are those of the data where these say them (arrays do)."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the items that are told nothing."""
    schedule: Literal["linear", "cosine", "scaled_linear"] = "cosine"
    T: Annotated[int, Field(ge=1, le=100_000)] = 1000
    weighting: losses.Weighting = "plain"
    """plain: the squared error of what is predicted. min-snr: that of x0, times the clipped signal-to-noise ratio."""
    snr_clip: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] = (0.0, 5.0)
    """Bounds of the ratio (Hang et al. 2023, min-SNR)."""
    known_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the error where the network was told the value; 1: the loss is on all values, 0: on what it is not told."""

    @property
    def levels(self) -> NoiseSchedule:
        return schedules.named(self.schedule, self.T)

    def fitted(self, about: Mapping[str, Any]) -> Self:
        """With the channels, size and units of arrays. Pictures: values of RGB pictures only. Raises `UsageError`."""
        if "channels" not in about:
            if (self.network.channels, self.network.cond_channels, self.network.condition) != (3, 3, "values"):
                raise UsageError("task.network: pictures have 3 channels and are told by their values; arrays need data.kind = 'arrays'")
            return self
        values = self.network.condition == "values"
        if values and not (about["masked"] or about["redrawn"]):
            raise UsageError("data.points: the data have no mask, so no value is known to the network; give points, or save mask.npy")
        if not values and about["redrawn"]:
            raise UsageError("data.points: are for task.network.condition = 'values'; measurements are told as they are, leave points out")
        mean, std, cond_mean, cond_std = (tuple(about[key]) for key in ("mean", "std", "cond_mean", "cond_std"))
        units = Units(mean, std, mean if values else cond_mean, std if values else cond_std, about["units"])
        count = about["channels" if values else "cond_channels"]
        found = {"channels": about["channels"], "cond_channels": count, "size": about["size"], "clamp": False, "units": units}
        return replace(self, network=replace(self.network, **found))

    def build(self, seed: int) -> dict[str, nn.Module]:
        losses.check(self.network.prediction, self.weighting, self.snr_clip)
        check_default(self.network.default_method, self.levels)
        if wrong := self.network.wrong():
            raise UsageError(f"task.network.{wrong}; give another one")
        with torch.random.fork_rng(devices=[]):  # the generator is global inside torch's layers
            torch.manual_seed(seed)
            return {"network": ControlNetwork(self.network)}

    def multiple(self, networks: Mapping[str, nn.Module]) -> int:
        network = networks["network"]
        assert isinstance(network, ControlNetwork)
        return network.multiple

    def item(self, example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Item:
        t, given = int(rng.integers(1, self.T + 1)), rng.random() >= self.drop
        x0, known = (np.ascontiguousarray(example[name]) for name in ("x0", "known"))
        cond = x0 * known if self.network.condition == "values" else np.ascontiguousarray(example["cond"])
        arrays = {"x0": x0, "known": known, "cond": cond, "noise": rng.standard_normal(x0.shape, dtype=np.float32)}
        scalars = {"t": torch.tensor(t), "given": torch.tensor(float(given))}
        return {name: torch.from_numpy(value) for name, value in arrays.items()} | scalars

    def loss(self, role: str, networks: Mapping[str, nn.Module], batch: Item) -> tuple[Tensor, dict[str, Tensor]]:
        t, given = batch["t"], batch["given"]
        out, told = self._output(networks[role], batch, t, given), batch["known"] * given[:, None, None, None]
        kind, pixel = self.network.prediction, 1 + (self.known_weight - 1) * told
        return losses.squared(kind, self.weighting, self.levels, self.snr_clip, out, batch["x0"], batch["noise"], t, pixel), {}

    def validate(self, networks: Mapping[str, nn.Module], batch: Item) -> dict[str, Tensor]:
        """loss: of all items told. rmse: of x0 from the condition and pure noise, where nothing is known, in the network's scale;
        there the best x0 is the mean of all pictures that fit the condition, so this is what kriging gives for fields. (Not for
        eps: from pure noise it says nothing of x0.)"""
        every, last = torch.ones_like(batch["given"]), torch.full_like(batch["t"], self.T)
        loss, _ = self.loss("network", networks, batch | {"given": every})
        if self.network.prediction == "eps":
            return {"loss": loss}
        out, x_t = self._output(networks["network"], batch, last, every), self.levels.noised(batch["x0"], last, batch["noise"])
        x0, hole = self.levels.x0_from(self.network.prediction, x_t, out, last), 1 - batch["known"]
        x0 = x0.clamp(-1, 1) if self.network.clamp else x0  # as when sampling
        error = (x0 - batch["x0"]).square() * hole
        return {"loss": loss, "rmse": (error.sum() / (hole.sum() * error.shape[1]).clamp(min=1)).sqrt()}

    def samples(self, networks: Mapping[str, nn.Module], batch: Item) -> Tensor:
        """Truth, condition and one sample side by side; of fields the first channel, two standard deviations to either end."""
        network = networks["network"]
        assert isinstance(network, ControlNetwork)
        denoiser = NetworkDenoiser(network, self.levels, len(batch["x0"]), batch["known"], batch["cond"])
        method, mask = shown(self.levels), Known(batch["known"])
        noise = Noise([])  # plain draws nothing after the first state
        context = Context(denoiser, mask, batch["x0"], noise, method.walk.levels(self.levels))
        *_, last = sample(method, method.walk.times(self.levels), State(context.first, batch["noise"]), context)
        columns = [
            part[:, :3] if part.shape[1] >= 3 else part[:, :1].expand(-1, 3, -1, -1) for part in (batch["x0"], batch["cond"], last.x)
        ]
        return torch.cat([part / (2 if self.network.units else 1) for part in columns], 3).clamp(-1, 1)

    def export(self, folder: Path, networks: Mapping[str, nn.Module], card: str) -> None:
        network = networks["network"]
        assert isinstance(network, ControlNetwork)
        control_folders.save(folder, network, self.levels, card)

    def _output(self, network: nn.Module, batch: Item, t: Tensor, given: Tensor) -> Tensor:
        """What the network says at levels t `(B,)`, in float32."""
        x_t = self.levels.noised(batch["x0"], t, batch["noise"])
        return network(x_t, t - 1, batch["known"], batch["cond"], given).float()
