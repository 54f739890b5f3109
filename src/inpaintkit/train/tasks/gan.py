"""A denoising-diffusion GAN: a generator that walks down in a few large steps, each a sample and not a mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from inpaintkit.core import schedule as schedules
from inpaintkit.core.errors import UsageError
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.core.settings import dumped
from inpaintkit.core.walk import Walk
from inpaintkit.methods.plain import Plain
from inpaintkit.models import catalog
from inpaintkit.models.checkpoints import build
from inpaintkit.models.gan import Discriminator
from inpaintkit.models.lora import LoRA
from inpaintkit.models.unet import METHOD, Network, NetworkConfig, channels, inputs, multiple, settings, started
from inpaintkit.train import losses, perceptual
from inpaintkit.train.adapters import adapted, export
from inpaintkit.train.begin import Begin
from inpaintkit.train.energy import energy, fills
from inpaintkit.train.judging import Judge, Weight
from inpaintkit.train.levels import check_start, refuse_channels, refuse_classes
from inpaintkit.train.task import Item, Task


@dataclass(frozen=True)
class Gan(Task):
    """Denoising Diffusion GAN (Xiao et al. 2022, eq. 4 to 8), with a mask-conditioned or an unconditional generator.

    The generator makes x0 of x_t and a latent z, and x_s is drawn from q(x_s | x_t, x0). A discriminator compares it with
    x_s of real pictures. What is known is put into the generator's x0 first, so it is judged on the hole only. Without the
    discriminator (adversarial_weight = 0) the generator learns to come near the truth, by pixels and by a classifier's features.

    The discriminator sees how much the pictures of a group differ, and a group lies within what one process works through: another
    number of processes that leaves each fewer pictures than a group makes other groups, and so another step.
    """

    averaged = ("generator",)
    places = ("features",)

    network: NetworkConfig
    """Of the generator: it predicts x0 and has a latent. Its default method is the walk it is trained for."""
    kind: Literal["gan"] = "gan"
    unet: dict[str, Any] = field(default_factory=dict)
    """Arguments of diffusers' UNet2DModel, of the generator; those of `start` where not given. Channels are counted."""
    start: str | None = None
    """Model that predicts x0 (bundled name or folder) whose weights to start from."""
    lora: LoRA | None = None
    """Present: the weights of `start` stay as they are, and a small adapter, which has no latent, is trained."""
    schedule: Literal["vp", "cosine", "linear", "scaled_linear"] = "vp"
    """That of `start`, if there is one. vp with T = walk.steps is the paper's own."""
    T: Annotated[int, Field(ge=1, le=100_000)] = 4
    walk: Walk = Walk(4, "trailing")
    """The levels it steps between: 2 to 8; 1 is a plain GAN."""
    shown: Literal["step", "x0"] = "step"
    """What is judged, by a discriminator where there is one: x_s, as in the paper, or x0 itself, made at any level (as Sauer et al.
    2023 do, ADD). The noise of large steps hides blur from it; and a generator that knows all levels can start part-way, as
    filling coarse to fine does."""
    begin: Begin = field(default_factory=Begin)
    """With shown = "x0": where items begin."""
    judge: Judge = field(default_factory=Judge)
    adversarial_weight: Weight = 1.0
    """Of the discriminator's verdict; 0: there is none, and the generator learns from what it is compared with alone."""
    perceptual_weight: Weight = 0.0
    """Weight of the distance to the truth by a classifier's features in the hole."""
    features: Path | None = None
    """File with that classifier's weights, as `inpaintkit eval --features` takes it, relative to where the command runs. What was
    learnt from cannot judge any more: measure with another one."""
    x0_weight: Weight = 0.0
    """Weight of the absolute error of x0 in the hole: steadies, and blurs. The paper's loss has none."""
    known_weight: Weight = 1.0
    """Weight of the absolute error of x0 where it is known: nothing else teaches a conditioned generator to repeat that."""
    feature_weight: Weight = 0.0
    """Weight of the distance to what the discriminator finds in the real step (Wang et al. 2018, pix2pixHD, eq. 4)."""
    stir: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Strength of the latent at the start when the start has none; 0: the network computes what it did."""

    @property
    def roles(self) -> tuple[str, ...]:
        return ("discriminator", "generator") if self.adversarial_weight else ("generator",)

    @property
    def levels(self) -> NoiseSchedule:
        return schedules.named(self.schedule, self.T)

    @property
    def method(self) -> Plain:
        """How the generator is sampled: each step from the posterior it was trained with."""
        return Plain(eta=1.0, walk=self.walk)

    def build(self, seed: int) -> dict[str, nn.Module]:
        self._check()
        start = catalog.load(self.start) if self.start else None
        with torch.random.fork_rng(devices=[]):  # the generator is global inside torch's layers
            torch.manual_seed(seed)
            config = replace(self.network, default_method={"name": "plain", **dumped(self.method)})
            generator = build(Path("task.unet"), self._arguments(start), config, "cpu")
            refuse_classes(generator)
            networks: dict[str, nn.Module] = {}
            if self.adversarial_weight:
                told = config.condition is not None
                networks["discriminator"] = Discriminator(self.T, channels(generator), told, config.patch, self.judge.widths)
            networks["generator"] = generator if start is None else self._from(generator, start)
        if self.features is not None:
            networks["features"] = perceptual.extractor(self.features)
        return networks

    def multiple(self, networks: Mapping[str, nn.Module]) -> int:
        """Of both networks: the discriminator's cells are whole. A picture of half the size must fit too where there are some."""
        generator, discriminator = networks["generator"], networks.get("discriminator")
        assert isinstance(generator, Network)
        step = multiple(generator) * (2 if self.begin.coarse else 1)
        return math.lcm(step, discriminator.cell) if isinstance(discriminator, Discriminator) else step

    def whole(self, items: int) -> int:
        return self.judge.whole(items) if self.adversarial_weight else 1

    def check(self, networks: Mapping[str, nn.Module], shapes: Sequence[tuple[int, int, int]], accumulate: int, processes: int = 1) -> None:
        super().check(networks, shapes, accumulate, processes)
        if self.features is not None:
            perceptual.check({side for _, *sides in shapes for side in sides})

    def item(self, example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Item:
        t, step, coarse = self._step(rng)
        x0 = torch.from_numpy(np.ascontiguousarray(example["x0"]))
        first, *others = torch.from_numpy(rng.standard_normal((3, *x0.shape), dtype=np.float32))
        return {
            "x0": x0,
            "known": torch.from_numpy(np.ascontiguousarray(example["known"])),
            "t": torch.tensor(t),
            "x_t": self.levels.noised(x0, t, first),
            "step": torch.tensor(step, dtype=torch.float32),
            "coarse": torch.tensor(coarse),
            "noise": torch.stack(others),
            "z": torch.from_numpy(rng.standard_normal((2, self.network.latent), dtype=np.float32)),
            "seed": torch.tensor(int(rng.integers(2**62))),
        }

    def _step(self, rng: np.random.Generator) -> tuple[int, tuple[float, float, float], bool]:
        """A level t, what of x0, x_t and noise is judged (x_s, or x0 as it is), and whether to begin from a coarse fill."""
        if self.shown == "x0":
            t, coarse = self.begin.draw(rng, self.T)
            return t, (1.0, 0.0, 0.0), coarse
        levels = self.walk.levels(self.levels)
        s, t = list(pairwise(levels))[int(rng.integers(len(levels) - 1))]
        return t, self.levels.posterior(t, s), False

    def loss(self, role: str, networks: Mapping[str, nn.Module], batch: Item) -> tuple[Tensor, dict[str, Tensor]]:
        known = batch["known"] if self.network.condition else torch.zeros_like(batch["known"])
        begun = self.begin.begun(networks["generator"], self.levels, batch, known)
        return (self._judged if role == "discriminator" else self._made)(networks, begun, known)

    def validate(self, networks: Mapping[str, nn.Module], batch: Item) -> dict[str, Tensor]:
        """The energy score of two fills by the walk itself; before it, where that was learnt from, the perceptual distance of one."""
        one, other = self._fills(networks, batch), self._fills(networks, batch, 1)
        figures = energy(one, other, batch)
        if self.features is None:
            return figures
        return {"perceptual": perceptual.loss(networks["features"], one, batch["x0"], batch["known"])} | figures

    def samples(self, networks: Mapping[str, nn.Module], batch: Item) -> Tensor:
        """What is known, two fills, and the truth, side by side."""
        fills = [self._fills(networks, batch, k) for k in range(2)]
        return torch.cat([batch["x0"] * batch["known"], *fills, batch["x0"]], 3)

    def adam(self, role: str) -> dict[str, Any]:
        return {"betas": (0.5, 0.9)}

    def rate(self, role: str, name: str) -> float:
        return self.judge.lr if role == "discriminator" else 1.0

    def export(self, folder: Path, networks: Mapping[str, nn.Module], card: str) -> None:
        generator = networks["generator"]
        assert isinstance(generator, Network)
        export(folder, generator, self.levels, card)

    def _check(self) -> None:
        if self.network.prediction != "x0":
            raise UsageError(f"task.network.prediction = {self.network.prediction!r}: a generator makes x0")
        if self.network.default_method != METHOD:
            raise UsageError("task.network.default_method: a generator is run by its task.walk; leave it out")
        if self.walk.jump_n_sample > 1 or self.walk.start < 1:
            raise UsageError("task.walk: a generator is trained for a walk from start = 1 without jumps")
        try:
            self.walk.levels(self.levels)
        except UsageError as error:
            raise UsageError(f"task.walk.{error}") from None
        self.begin.check()
        if self.shown == "step" and self.begin != Begin():
            raise UsageError('task.begin: only with task.shown = "x0"; the levels of steps are those of task.walk')
        if self.features is None and self.perceptual_weight:
            raise UsageError(f"task.perceptual_weight = {self.perceptual_weight:g}: needs a classifier; name its file with task.features")
        if self.features is not None and not self.perceptual_weight:
            raise UsageError(f"task.features = {self.features}: counts for nothing without task.perceptual_weight; give both, or neither")
        if self.feature_weight and not self.adversarial_weight:
            raise UsageError(
                f"task.feature_weight = {self.feature_weight:g}: without an adversary there are no such features; leave it out"
            )
        if not (self.adversarial_weight or self.perceptual_weight or self.x0_weight):
            raise UsageError("task.adversarial_weight = 0: nothing teaches the hole then; give task.perceptual_weight or task.x0_weight")
        if self.lora is not None and (self.start is None or self.network.latent):
            raise UsageError("task.lora: adapts task.start and has no latent; name a start, and leave task.network.latent out")

    def _arguments(self, start: catalog.Model | None) -> dict[str, Any]:
        """Of UNet2DModel."""
        area = self.network.patch**2
        colors = 3 if self.network.condition else self.unet.get("out_channels", 3 * area) // area
        counted = {"in_channels": inputs(self.network, colors), "out_channels": colors * area}
        refuse_channels(self.unet, counted)
        kind = {"class_embed_type": "identity" if self.network.latent else None}
        return ({} if start is None else settings(start.unet)) | self.unet | counted | kind

    def _from(self, generator: Network, start: catalog.Model) -> Network:
        """The generator with the weights of a denoiser, or of another generator with its latent."""
        check_start(self.start, start, self.levels)
        started(generator, start.unet)
        if generator.mapping is not None and start.unet.mapping is not None and start.unet.config.latent == generator.config.latent:
            generator.mapping.load_state_dict(start.unet.mapping.state_dict())
        elif generator.mapping is not None:
            generator.mapping.quieten(self.stir)
        return generator if self.lora is None else adapted(generator, str(self.start), start, self.lora, generator.config)

    def _judged(self, networks: Mapping[str, nn.Module], batch: Item, known: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's loss."""
        with torch.no_grad():
            fake = _down(self._x0(networks, batch, known, 0)[1], batch, 1)
        return self.judge.loss(networks["discriminator"], _down(batch["x0"], batch, 0), fake, batch, known)

    def _made(self, networks: Mapping[str, nn.Module], batch: Item, known: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's loss: the adversarial one (Xiao et al. 2022, eq. 6, non-saturating), and the terms that steady it."""
        x0, whole = self._x0(networks, batch, known, 1)
        error = (x0 - batch["x0"]).abs().mean(1, keepdim=True)
        of = {"x0": 1 - known, "known": known}
        parts = {name: losses.mean(error, part / part.sum((1, 2, 3), keepdim=True).clamp(min=1)) for name, part in of.items()}
        if self.adversarial_weight:
            made, real = _down(whole, batch, 0), _down(batch["x0"], batch, 0)  # the same noise on both: they differ by what was made
            parts |= self.judge.verdict(networks["discriminator"], made, real, batch, known, bool(self.feature_weight))
        if self.features is not None:
            parts["perceptual"] = perceptual.loss(networks["features"], whole, batch["x0"], known)
        weights = {
            **{"x0": self.x0_weight, "known": self.known_weight, "adversarial": self.adversarial_weight},
            **{"features": self.feature_weight, "perceptual": self.perceptual_weight},
        }
        return torch.stack([weights[name] * part for name, part in parts.items()]).sum(), parts

    def _x0(self, networks: Mapping[str, nn.Module], batch: Item, known: Tensor, z: int) -> tuple[Tensor, Tensor]:
        """The generator's x0 with the z-th latent; the same with what is known put in."""
        x0 = networks["generator"](batch["x_t"], batch["t"] - 1, known, batch["x0"], z=batch["z"][:, z]).float()
        return x0, known * batch["x0"] + (1 - known) * x0

    def _fills(self, networks: Mapping[str, nn.Module], batch: Item, variant: int = 0) -> Tensor:
        generator = networks["generator"]
        assert isinstance(generator, Network)
        return fills(generator, self.levels, self.method, batch, variant)


def _down(x0: Tensor, batch: Item, noise: int) -> Tensor:
    """x_s from x0 and x_t, with the step's own noise."""
    of_x0, of_x_t, sigma = batch["step"][:, :, None, None, None].unbind(1)
    return of_x0 * x0 + of_x_t * batch["x_t"] + sigma * batch["noise"][:, noise]
