"""Training of a (mask-conditioned) diffusion network on pictures, as a generator: logging belongs to the caller.

Every random draw is a function of (seed, step, item), so the step number is the whole state of the data.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inpaintkit.core import schedule as schedules
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.noise import derived
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.core.settings import checked, dumped
from inpaintkit.data.datasets import Pictures, load
from inpaintkit.data.masks import MASKS
from inpaintkit.models.checkpoints import load_folder
from inpaintkit.models.unet import Network
from inpaintkit.train import state as states
from inpaintkit.train.recipes import Batch, Recipe


@dataclass(frozen=True)
class Report:
    """What the loop yields after each step."""

    step: int
    loss: float
    rate: float
    seconds: float
    pictures: int


class Trainer:
    """Network, its moving average, optimiser and data of one recipe. `run()` does the steps that are left."""

    def __init__(self, recipe: Recipe, data_root: Path, out: Path, start: Path | None = None):
        self.recipe, self.out = recipe, Path(out)
        self.schedule: NoiseSchedule = schedules.SCHEDULES[recipe.schedule](recipe.T)
        every = load(_expand(recipe, data_root), recipe.prefix_weights)
        self.train, self.held = every.split(recipe.held_out)
        if not self.train.images:
            raise BadInput(f"{data_root}: all of its {len(every.images)} pictures are held out; add pictures or lower held_out")
        self.pools = [_at_least(self.train, batch.smallest) for batch in recipe.batches]
        self.network = _network(recipe, start or (Path(recipe.start) if recipe.start else None))
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        parameters = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        self.step, self.pictures = 0, 0

    def about(self) -> dict:
        """What a resumed state must agree with (the number of steps may be raised)."""
        return {"recipe": _lasting(self.recipe), "pictures_in_data": len(self.train.images)}

    def save(self) -> Path:
        network = {f"net.{k}": v for k, v in self.network.state_dict().items()}
        average = {f"ema.{k}": v for k, v in self.average.items()}
        tensors = network | average | states.flat_optimizer(self.optimizer)
        return states.write(self.out, self.step, tensors, self.about() | {"pictures": self.pictures})

    def resume(self) -> list[str]:
        """Load the newest complete state in the output folder, if any; warnings about damaged ones are returned."""
        found, warnings = states.newest(self.out)
        if found is None:
            return warnings
        tensors, manifest = found
        states.refuse_other(manifest | {"recipe": _as_of_today(manifest["recipe"])}, self.about(), self.out)
        self.network.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        self.average = {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}
        states.restore_optimizer(self.optimizer, tensors)
        self.step, self.pictures = manifest["step"], manifest["pictures"]
        return warnings

    def averaged(self) -> Network:
        """A copy of the network holding the moving average of the weights."""
        copy = _network(self.recipe, None)
        copy.load_state_dict(self.average)
        return copy.eval().requires_grad_(False)

    def rate(self) -> float:
        """Learning rate: linear warm-up, flat, then a linear fall to zero over the last `decay` of the steps."""
        r = self.recipe
        left = (r.steps - self.step) / max(r.decay * r.steps, 1)
        return r.lr * min(1.0, (self.step + 1) / (r.warmup + 1), left)

    def run(self) -> Iterator[Report]:
        """Train until `recipe.steps`. Raises `BadInput` at a loss that is not finite; the saved state stays good."""
        r = self.recipe
        shares = np.array([b.share for b in r.batches]) / sum(b.share for b in r.batches)
        self.network.train()
        while self.step < r.steps:
            begin = time.perf_counter()
            kind = int(np.random.default_rng([r.seed, self.step]).choice(len(shares), p=shares))
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            x0, known, t, noise = _draw(r, self.pools[kind], r.batches[kind], self.step)
            with torch.random.fork_rng(devices=[]):  # for dropout, where the network has any
                torch.manual_seed(derived(r.seed, "dropout", self.step))
                loss = self.loss(self.network, x0, known, t, noise)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), r.grad_clip)
            if not math.isfinite(float(norm)) or not math.isfinite(loss.item()):
                raise BadInput(f"{self.out}: loss or gradient is not finite at step {self.step}; lower lr, the last saved state is good")
            self.optimizer.step()
            self.step, self.pictures = self.step + 1, self.pictures + len(x0)
            decay = min(r.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                current = self.network.state_dict()
                torch._foreach_lerp_(list(self.average.values()), [current[k] for k in self.average], 1 - decay)
            yield Report(self.step, loss.item(), self.rate(), time.perf_counter() - begin, self.pictures)

    def loss(self, network: Network, x0: Tensor, known: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Weighted squared error of x0: clip(SNR) per picture, hole 1 and known `known_weight` per pixel.

        x0, noise `(B, 3, H, W)`; known `(B, 1, H, W)`; t `(B,)` in 1..T.
        """
        r, bars = self.recipe, self.schedule.alpha_bar[t].float()[:, None, None, None]
        x_t = bars.sqrt() * x0 + (1 - bars).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=r.autocast):
            out = network(x_t, t - 1, known, x0)
        out = out.float()
        if r.network.prediction == "v":
            out = bars.sqrt() * x_t - (1 - bars).sqrt() * out
        elif r.network.prediction == "eps":
            out = (x_t - (1 - bars).sqrt() * out) / bars.sqrt()
        snr = (bars / (1 - bars)).clamp(*r.snr_clip)
        pixel = r.known_weight * known + (1 - known)
        return (snr * pixel * (out - x0).square()).mean()

    @torch.no_grad()
    def validate(self, network: Network, pictures: int = 96, size: int = 64) -> float:
        """Mean held-out loss over fixed crops, masks, noise and levels (the same for every call); NaN when nothing is held out."""
        if not self.held.images:
            return math.nan
        batch = Batch(size=size, items=16)
        recipe = replace(self.recipe, seed=self.recipe.seed + 1_000_003)
        draws = [_draw(recipe, self.held, batch, i) for i in range(pictures // 16)]
        return float(np.mean([self.loss(network, *draw).item() for draw in draws]))


def _lasting(recipe: Recipe) -> dict[str, Any]:
    """The values of a recipe that stay the same through a run."""
    return {k: v for k, v in dumped(recipe).items() if k not in ("steps", "decay")}


def _as_of_today(recipe: dict[str, Any]) -> dict[str, Any]:
    """A saved recipe with settings that were added since then at their defaults; one that cannot be read as it is."""
    try:
        return _lasting(checked(Recipe, recipe | {"steps": 1}))
    except UsageError:
        return recipe


def _draw(r: Recipe, pool: Pictures, batch: Batch, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x0, known, t, noise) of a step; each item from its own generator."""
    crops, holes, levels = [], [], []
    kinds, weights = list(r.masks), np.array(list(r.masks.values())) / sum(r.masks.values())
    for item in range(batch.items):
        rng = np.random.default_rng([r.seed, step, item])
        crops.append(pool.crop(rng, batch.size))
        holes.append(_hole(rng, kinds[int(rng.choice(len(kinds), p=weights))], batch.size, r.mask_zoom))
        levels.append(int(rng.integers(1, r.T + 1)))
    x0 = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
    known = 1 - torch.from_numpy(np.stack(holes)).float()[:, None]
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(derived(r.seed, "noise", step)))
    return x0, known, torch.tensor(levels), noise


def _hole(rng: np.random.Generator, kind: str, size: int, zooms: tuple[int, ...]) -> np.ndarray:
    """A mask of `kind`, cropped from a larger canvas; drawn again while the crop has no hole."""
    while True:
        canvas = size * int(rng.choice(zooms)) if kind in ("thin", "medium", "thick", "box", "scratches") else size
        left, top = rng.integers(canvas - size + 1, size=2)
        hole = MASKS[kind]((canvas, canvas), rng)[top : top + size, left : left + size]
        if hole.mean() > 0.01:
            return hole


def _expand(recipe: Recipe, root: Path) -> list[tuple[Path, float]]:
    sources = []
    for source in recipe.sources:
        found = sorted(Path(root).glob(source.path))
        if not found:
            raise BadInput(f"{Path(root) / source.path}: nothing there; give the folder of the training pictures with --data")
        sources += [(path, source.weight) for path in found]
    return sources


def _at_least(pictures: Pictures, smallest: int) -> Pictures:
    large = [i for i, image in enumerate(pictures.images) if min(image.shape[:2]) >= smallest]
    if not large:
        raise BadInput(f"smallest = {smallest}: none of the {len(pictures.images)} training pictures has as many pixels; lower it")
    return pictures.keep(large)


def _network(recipe: Recipe, start: Path | None) -> Network:
    from diffusers import UNet2DModel

    with torch.random.fork_rng(devices=[]):  # the generator is global inside torch's layers
        torch.manual_seed(recipe.seed)
        network = Network(UNet2DModel(**recipe.unet), recipe.network)  # type: ignore[arg-type]
    if start is not None:
        network.unet.load_state_dict(load_folder(start)[0].unet.state_dict())
    return network
