"""Fine-tuning on one photo before it is filled: its known pixels are all there is to learn from.

Holes of the shapes that training has are cut into what is known near the real hole, at the scales the hole is filled at, and an
adapter learns to fill them.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inpaintkit.core.errors import UsageError
from inpaintkit.core.progress import Progress
from inpaintkit.core.sampler import Seed
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.data.images import Hole, Picture
from inpaintkit.data.masks import MASKS
from inpaintkit.models import catalog, lora
from inpaintkit.models.lora import Adapted, Adapter, LoRA
from inpaintkit.models.unet import Network, classes, pushpull
from inpaintkit.pipeline import regions
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options, cut_out
from inpaintkit.pipeline.plans import call_seconds
from inpaintkit.train import losses

ADAPTER = LoRA(rank=8, alpha=16.0, targets=("conv1", "conv2"), train_input=False)
RATE, ITEMS, WARMUP, KNOWN_WEIGHT, SNR_CLIP = 1e-3, 8, 20, 0.1, (0.2, 5.0)
KINDS = ("thin", "medium", "thick")
LEAST = 0.02
"""Share of a crop that must be a fake hole over known pixels for the crop to count."""
TRIES = 200


@dataclass(frozen=True)
class Piece:
    """A region of the photo at one of its scales."""

    picture: Tensor
    """`(1, 3, H, W)`, extended smoothly where nothing is known."""
    known: Tensor


def tuned(
    pipe: Inpainter,
    picture: Picture,
    hole: Hole,
    steps: int,
    seed: Seed = 0,
    options: Options | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Inpainter:
    """The model fine-tuned on the known pixels of a picture, ready to fill its hole. Nothing in the hole is looked at.

    steps: of `ITEMS` crops each; 200 is what was tried (docs/LOG.md). The same seed gives the same network, on a CPU to the bit.
    Raises `UsageError` for a model that is not told the known pixels, and for a picture with too little known to learn from.
    """
    base = catalog.load(pipe.model.name)
    network = base.network
    if not isinstance(network, Network) or network.config.condition is None or network.config.latent or classes(network):
        raise UsageError(f"{pipe.model.name}: cannot be tuned on a picture; a mask-conditioned model such as photo-64 can")
    pieces = _pieces(pipe, picture, hole, options or Options())
    with torch.random.fork_rng(devices=[]):  # the adapter's first weights
        torch.manual_seed(seed)
        adapted = Adapted(network, Adapter(base.name, base.sha256, ADAPTER, network.config)).to(pipe.device)
    weights = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    kind = network.config.prediction
    clip = SNR_CLIP if kind != "eps" else (0.0, SNR_CLIP[1])  # a floor leaves the weight of eps unbounded
    narrow = torch.autocast(pipe.device.type, torch.bfloat16) if pipe.dtype == torch.bfloat16 else nullcontext()
    with torch.enable_grad():
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
            rng = np.random.default_rng([seed, step])
            items = [_item(pieces, network.config.size, base.schedule, rng, picture.name) for _ in range(ITEMS)]
            x0, told, learnt, noise, t = (torch.cat(parts).to(pipe.device) for parts in zip(*items, strict=True))
            with narrow:
                out = adapted(base.schedule.noised(x0, t, noise), t - 1, told, x0)
            loss = losses.squared(kind, "min-snr", base.schedule, clip, out.float()[:, :3], x0, noise, t, learnt + KNOWN_WEIGHT * told)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if on_step is not None:
                on_step(Progress(step + 1, steps))
    made = lora.merged(adapted).to(pipe.device, pipe.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return replace(pipe, model=replace(pipe.model, network=made), denoiser=replace(pipe.denoiser, network=made))


def seconds(pipe: Inpainter, steps: int) -> float:
    """About how long `tuned` takes, by one timed call: a step back costs twice a step forward."""
    return 3 * steps * ITEMS * call_seconds(pipe, (pipe.model.network.config.size,) * 2, gradient=False)


def _pieces(pipe: Inpainter, picture: Picture, hole: Hole, options: Options) -> list[Piece]:
    """Every region of the hole at every scale it is filled at, with nothing known beyond its edges where it is small."""
    found, size = [], pipe.model.network.config.size
    for region in pipe.plan(hole, options):
        y, known = cut_out(picture, hole, region.box)
        for scale in region.scales:
            small, where = regions.reduced(y, known, scale)
            h, w = small.shape[2:]
            small, where = (F.pad(part, (0, max(size - w, 0), 0, max(size - h, 0))) for part in (small, where))
            found.append(Piece(pushpull(small, where), where))
    return found


def _item(
    pieces: Sequence[Piece], size: int, schedule: NoiseSchedule, rng: np.random.Generator, name: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(x0, what is told, what is learnt, noise, level) of a random crop, each with its dimension of the batch."""
    for _ in range(TRIES):
        piece = pieces[int(rng.integers(len(pieces)))]
        top, left = (int(rng.integers(n - size + 1)) for n in piece.known.shape[2:])
        x0, known = (part[:, :, top : top + size, left : left + size] for part in (piece.picture, piece.known))
        fake = torch.from_numpy(MASKS[KINDS[int(rng.integers(len(KINDS)))]]((size, size), rng))[None, None].float()
        if (known * fake).mean() < LEAST:
            continue
        parts = [x0, known * (1 - fake), known * fake, torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))]
        if rng.random() < 0.5:
            parts = [part.flip(3) for part in parts]
        x0, told, learnt, noise = parts
        return x0, told, learnt, noise, torch.from_numpy(rng.integers(1, schedule.T + 1, 1))
    raise UsageError(f"{name}: too little is known around the hole to learn from; leave --tune away")
