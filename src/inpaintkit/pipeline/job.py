"""One call's work: every region sampled through its windows, coarse to fine, its seams closed."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from inpaintkit.core.noise import Noise, derived
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, Denoiser, Method, State, begin, sample
from inpaintkit.core.settings import Settings
from inpaintkit.data.images import Picture, known_from_hole
from inpaintkit.models.denoisers import NetworkDenoiser, Tiled, crops
from inpaintkit.models.guided import guided
from inpaintkit.pipeline import regions, seam
from inpaintkit.pipeline.measured import Measured
from inpaintkit.pipeline.regions import Box, Region

AT_ONCE = 16  # pictures sampled together; more only costs memory


@dataclass(frozen=True)
class Step(State):
    """A `State` of the loop, and where in the whole job it belongs."""

    boxes: tuple[Box, ...] = ()
    """Regions of the picture the batch holds, one per picture of the batch."""
    scale: int = 1
    """Reduction factor of the level being filled."""
    done: int = 0
    total: int = 1
    """Moves made and to be made in the whole job."""


@dataclass(frozen=True)
class Options(Settings):
    """How a hole is filled, apart from the method."""

    grow: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Enlarge the hole by this many pixels (old content often bleeds over a mask's edge)."""
    feather: Annotated[int, Field(ge=0, le=10_000)] = 8
    """How far into the hole, in pixels, the fill is adjusted to meet the known pixels without a step; 0 = not at all."""
    crop: Literal["auto", "none"] = "auto"
    """auto: only windows around the hole are computed; none: the whole picture is."""
    reach: Annotated[float, Field(ge=1)] = 8.0
    """A hole pixel further than this from known ones is filled coarse to fine."""
    refine: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Where a finer level starts, as a share of the noise levels."""
    tell_network: bool = False
    """Tell a mask-conditioned network the known pixels with any method (plain always does)."""
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How strongly the network follows the known pixels, which it is then told with any method: 0 = not at all, 1 = as it was
    trained, above 1 = more than that (then, and between, it is called twice a step)."""
    label: Annotated[int, Field(ge=0)] | Literal["random"] | None = None
    """Class to be shown by a class-conditional network; random: drawn from the seed, another one for each variant."""

    @property
    def calls(self) -> int:
        """Evaluations of the network for one prediction: with and without what is known where it is guided."""
        return 1 if self.guidance in (None, 0, 1) else 2


@dataclass
class Job:
    """One call: what all its regions share."""

    denoiser: NetworkDenoiser
    method: Method
    options: Options
    told: bool
    device: torch.device
    on_step: Callable[[Step], None] | None
    measured: Measured | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    done: int = 0
    total: int = field(default=0, init=False)

    def run(self, picture: Picture, hole: np.ndarray, planned: Sequence[Region], seeds: Sequence[int]) -> Iterator[tuple[Box, Tensor]]:
        """(box inside the picture, values `(variants, 3, h, w)`) of every region; equal ones are sampled together."""
        alike: dict[Any, list[Region]] = defaultdict(list)
        for region in planned:
            alike[region.size, region.scales].append(region)
        batches = [
            group[i : i + n]
            for group, n in ((group, self.at_once(group[0], len(seeds))) for group in alike.values())
            for i in range(0, len(group), n)
        ]
        self.total = sum(len(self.walk(scale != batch[0].scales[0])) - 1 for batch in batches for scale in batch[0].scales)
        for batch in batches:
            parts = [cut_out(picture, hole, region.box) for region in batch]
            y, known = (torch.cat([part[k] for part in parts]) for k in (0, 1))
            began = time.perf_counter()
            x = self.coarse_to_fine(y.repeat_interleave(len(seeds), 0), known.repeat_interleave(len(seeds), 0), batch, seeds)
            self.seconds += time.perf_counter() - began
            for n, region in enumerate(batch):
                values = x[n * len(seeds) : (n + 1) * len(seeds)]
                box = region.hole  # not the region's box: regions may overlap, their holes do not
                left, top = box[0] - region.box[0], box[1] - region.box[1]
                yield box, values[:, :, top : top + box[3] - box[1], left : left + box[2] - box[0]]

    def at_once(self, region: Region, variants: int) -> int:
        """How many regions like this one are sampled together. A tiled region goes alone: its windows follow its own hole."""
        tiled = max(region.size) > self.denoiser.network.config.largest
        return 1 if tiled else max(1, AT_ONCE // variants)

    def walk(self, finer: bool) -> list[int]:
        return self._at(finer).walk.times(self.denoiser.schedule)

    def _at(self, finer: bool) -> Method:
        return refined(self.method, self.options.refine) if finer else self.method

    def coarse_to_fine(self, y: Tensor, known: Tensor, batch: Sequence[Region], seeds: Sequence[int]) -> Tensor:
        """Fill y `(B, 3, h, w)` where known `(B, 1, h, w)` is 0.

        Each finer level starts from the enlarged coarser one; seams are closed at every level.
        """
        x: Tensor | None = None
        boxes = tuple(region.box for region in batch for _ in seeds)
        for scale in batch[0].scales:
            noise = Noise([derived(seed, scale, *region.box) for region in batch for seed in seeds])
            small, where = regions.reduced(y, known, scale)
            if x is not None:
                x = torch.where(where > 0, small, regions.enlarged(x, small.shape[2:]))
            x = self.level(small, where, x, noise, boxes, scale)
            variants = [slice(i, i + len(seeds)) for i in range(0, len(x), len(seeds))]  # of one region: they share its rim
            x = torch.cat([seam.close(x[v], small[v][:1], where[v][:1], self.options.feather) for v in variants])
        assert x is not None
        return x

    def level(self, y: Tensor, known: Tensor, start: Tensor | None, noise: Noise, boxes: tuple[Box, ...], scale: int) -> Tensor:
        """One run of the sampling loop."""
        method = self._at(start is not None)
        schedule = self.denoiser.schedule
        y, known = y.to(self.device), known.to(self.device)
        operator, values = (Known(known), y) if self.measured is None else self.measured.at(boxes, self.device)
        if self.measured is not None and method.walk.start < 1:
            start = self.measured.beginning(boxes)
        context = Context(self._denoiser(y, known, noise), operator, values, noise, method.walk.levels(schedule), self.notes)
        state = first = begin(context, y.shape[1:], None if start is None else start.to(self.device))
        for state in sample(method, method.walk.times(schedule), first, context):
            self.done += 1
            if self.on_step is not None:
                self.on_step(Step(state.t, state.x, state.x0, state.x0_t, boxes, scale, self.done, self.total))
        return state.x.clamp(-1, 1).cpu() if self.denoiser.clamp else state.x.cpu()

    def _denoiser(self, y: Tensor, known: Tensor, noise: Noise) -> Denoiser:
        """The network for a region: in one window, or in joint ones; told or not. A generator's latent is drawn from the noise."""
        network = replace(self.denoiser, noise=noise)
        corners, size = regions.windows(known, self.denoiser.network.config.largest)
        whole = size == tuple(y.shape[2:])
        parts = (known, y) if whole else (crops(known, corners, size), crops(y, corners, size))
        w = 1.0 if self.options.guidance is None else self.options.guidance
        inner = guided(network.told(*parts), w) if self.told else network
        if whole:
            return inner
        return Tiled(inner, corners, size, y)


def refined(method: Method, share: float) -> Method:
    """The method for a finer level: its walk starts part-way, in proportionally fewer steps."""
    walk = method.walk
    steps = max(1, round(walk.steps * share))
    length = min(walk.jump_length, max(1, steps - 1))
    again = walk.jump_n_sample if length < steps else 1
    return replace(method, walk=replace(walk, start=walk.start * share, steps=steps, jump_length=length, jump_n_sample=again))


def cut_out(picture: Picture, hole: np.ndarray, box: Box) -> tuple[Tensor, Tensor]:
    """(picture (1, 3, h, w), known (1, 1, h, w)) in a box that may reach beyond the picture; what lies there is unknown."""
    inside = regions.clipped(box, picture.size)
    left, top = inside[0] - box[0], inside[1] - box[1]
    known = known_from_hole(regions.cut(hole, box, True))
    y = torch.zeros(1, 3, *known.shape[2:])
    y[:, :, top : top + inside[3] - inside[1], left : left + inside[2] - inside[0]] = picture.region(inside)
    return y * known, known
