"""Filling the hole of a picture: `Inpainter`, the call everything else goes through."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from inpaintkit.core.errors import BadInput, OverLimit, UsageError
from inpaintkit.core.noise import Noise, derived
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, Denoiser, Method, State, begin, sample
from inpaintkit.core.settings import Settings, checked, dumped
from inpaintkit.data.images import Picture, check_hole, known_from_hole, read_mask, to_picture
from inpaintkit.methods import METHODS
from inpaintkit.methods.gradient import GradientMethod
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.models import catalog
from inpaintkit.models.denoisers import Calls, NetworkDenoiser, Tiled, crops
from inpaintkit.models.unet import channels, classes
from inpaintkit.pipeline import regions, seam
from inpaintkit.pipeline.measured import Measured, reference
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
    label: Annotated[int, Field(ge=0)] | Literal["random"] | None = None
    """Class to be shown by a class-conditional network; random: drawn from the seed, another one for each variant."""


@dataclass(frozen=True)
class Result:
    """The filled pictures, of the kind that was given, and the record of how they were made."""

    images: list[Any]
    record: dict[str, Any]


@dataclass(frozen=True)
class Inpainter:
    """A model ready to fill holes. Make one with `Inpainter.from_pretrained`."""

    model: catalog.Model
    denoiser: NetworkDenoiser
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def from_pretrained(
        cls, name: str = catalog.DEFAULT, device: str = "auto", dtype: str = "auto", micro_batch: int | None = None
    ) -> "Inpainter":
        """Load a bundled model, a model folder, a hub id or a published `.pt` or `.safetensors` file. Raises `UsageError` or `BadInput`.

        device: auto, cpu, cuda, mps. dtype: auto (bfloat16 where the processor has instructions for it), float32, bfloat16.
        micro_batch: pictures per network call, 1 on a CPU and 8 elsewhere unless given.
        """
        where = _device(device)
        what = _dtype(dtype, where)
        model = catalog.load(name)
        network = model.network.to(where, what).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(model, NetworkDenoiser(network, model.schedule, micro_batch or (1 if where.type == "cpu" else 8)), where, what)

    def method(self, method: Method | None = None) -> Method:
        """The checked method; the model's default one when none is given. Raises `UsageError`."""
        if method is not None:
            return checked(type(method), method)
        fields = dict(self.model.network.config.default_method)
        name = fields.pop("name", None)
        if name not in METHODS:
            raise BadInput(f"{self.model.name}: its default method {name!r} is not known; name one of {', '.join(METHODS)}")
        base = METHODS[name]
        return checked(type(base), dumped(base) | fields)

    def plan(
        self, hole: np.ndarray, options: Options | None = None, method: Method | None = None, measured: Measured | None = None
    ) -> list[Region]:
        """The regions that would be filled for a hole `(H, W)` bool. What is measured everywhere needs no coarser scale."""
        o = options or Options()
        config, reach = self.model.network.config, o.reach if measured is None else float(max(hole.shape))
        cells = (method.factor if isinstance(method, ILVR) else 1, 1 if measured is None else measured.factor)
        unit = math.lcm(self.denoiser.multiple, *cells)
        if o.crop == "none":
            return regions.whole(hole, unit, reach, config.size)
        return regions.plan(hole, unit, config.size, config.largest, reach)

    def __call__(
        self,
        image: Any,
        mask: Any,
        method: Method | None = None,
        seed: int = 0,
        variants: int = 1,
        options: Options | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Result:
        """Fill the hole.

        image: path, PIL image, array `(H, W[, C])` or tensor; the results are of the same kind, size and type, and equal to it
        outside the hole. mask: True / 1 / white = hole, same size. Variant k uses seed + k. `on_step` is called after
        every move and may raise `Cancelled`. Raises `BadInput`, `UsageError` or `OverLimit`, one line.
        """
        picture, restore = to_picture(image)
        pictures, record = self.fill(picture, read_mask(mask, picture.size), method, seed, variants, options, on_step)
        return Result([restore(p) for p in pictures], record)

    @torch.no_grad()
    def fill(
        self,
        picture: Picture,
        hole: np.ndarray,
        method: Method | None = None,
        seed: int = 0,
        variants: int = 1,
        options: Options | None = None,
        on_step: Callable[[Step], None] | None = None,
        measured: Measured | None = None,
    ) -> tuple[list[Picture], dict[str, Any]]:
        """The same on a `Picture` and a hole `(H, W)` bool, as every door calls it; (pictures, record).

        `measured` is what the method is to agree with in place of the known pixels; for ilvr with a hole that is everything,
        the picture itself unless given.
        """
        began = time.perf_counter()
        o, chosen = checked(Options, options or Options()), self.method(method)
        if seed < 0 or variants < 1:
            raise UsageError(f"seed = {seed}, variants = {variants}: the seed must be at least 0 and the variants at least 1")
        if (count := channels(self.model.network)) != 3:
            raise UsageError(f"{self.model.name}: makes {count}-channel arrays, not pictures; name a model of RGB pictures")
        notes = check_hole(hole, picture.name, picture)
        if o.grow > 0:
            hole = grown(hole, o.grow)
        told = self.denoiser.conditioned and (o.tell_network or chosen.tells_network)
        measured = measured or referred(picture, hole, chosen)
        labels = self._labels(o.label, range(seed, seed + variants))
        frugal = isinstance(chosen, GradientMethod) and chosen.frugal
        denoiser = replace(self.denoiser, calls=Calls(), frugal=frugal, labels=None if labels is None else torch.tensor(labels))
        job = _Job(denoiser, chosen, o, told, self.device, on_step, measured)
        planned = self.plan(hole, o, chosen, measured)
        try:
            filled = list(job.run(picture, hole, planned, [seed + k for k in range(variants)]))
        except (torch.OutOfMemoryError, MemoryError) as error:
            said = f"out of memory on {self.device} ({str(error)[:80]})"
            raise OverLimit(f"{picture.name}: {said}; use fewer variants or a smaller hole") from None
        results = [picture.with_parts([(box, values[k : k + 1]) for box, values in filled], hole) for k in range(variants)]
        record = self._record(chosen, o, told, job, planned, hole, seed, variants, notes, began)
        record["labels"] = labels
        record["changed_outside"] = max(changed_outside(picture, result, hole) for result in results)
        return results, record

    def _labels(self, label: int | str | None, seeds: Sequence[int]) -> list[int] | None:
        """The class of each variant; None for a network without classes. Raises `UsageError`."""
        count, name = classes(self.model.network), self.model.name
        if count == 0 and label is not None:
            raise UsageError(f"{name}: is not class-conditional; leave --label away")
        if count and (label is None or (label != "random" and int(label) >= count)):
            given = "needs a label" if label is None else f"has no class {label}"
            raise UsageError(f"{name}: is class-conditional and {given}; pass --label N, with N from 0 to {count - 1}, or --label random")
        return [derived(s, "label") % count if label == "random" else int(label or 0) for s in seeds] if count else None

    def _record(self, method, options, told, job, planned, hole, seed, variants, notes, began) -> dict[str, Any]:  # type: ignore[no-untyped-def]
        return {
            "model": self.model.name,
            "model_sha256": self.model.sha256,
            "method": {"class": type(method).__name__, **dumped(method)},
            "papers": [str(paper) for paper in method.papers],
            "options": dumped(options),
            "told": told,
            "seed": seed,
            "variants": variants,
            "walk": dumped(method.walk),
            "steps": method.walk.steps,
            "nfe": job.denoiser.calls.forward // variants,
            "nfe_backward": job.denoiser.calls.backward // variants,
            "windows": [{"box": list(region.box), "scales": list(region.scales)} for region in planned],
            "hole_fraction": float(hole.mean()),
            "seconds": round(job.seconds, 4),
            "seconds_total": round(time.perf_counter() - began, 4),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "micro_batch": self.denoiser.micro_batch,
            "versions": {name: version(name) for name in ("inpaintkit", "torch", "numpy", "pillow", "diffusers")},
            "notes": [*notes, *job.notes],
        }


@dataclass
class _Job:
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
            parts = [_cut(picture, hole, region.box) for region in batch]
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
        if self.measured is not None and self.measured.operator is None and method.walk.start < 1:
            start = values  # a reference is a picture to start from
        context = Context(self._denoiser(y, known), operator, values, noise, method.walk.levels(schedule), self.notes)
        state = first = begin(context, y.shape[1:], None if start is None else start.to(self.device))
        for state in sample(method, method.walk.times(schedule), first, context):
            self.done += 1
            if self.on_step is not None:
                self.on_step(Step(state.t, state.x, state.x0, state.x0_t, boxes, scale, self.done, self.total))
        return state.x.clamp(-1, 1).cpu() if self.denoiser.clamp else state.x.cpu()

    def _denoiser(self, y: Tensor, known: Tensor) -> Denoiser:
        """The network for a region: in one window, or in joint ones; told or not."""
        corners, size = regions.windows(known, self.denoiser.network.config.largest)
        if size == tuple(y.shape[2:]):
            return self.denoiser.told(known, y) if self.told else self.denoiser
        inner = self.denoiser.told(crops(known, corners, size), crops(y, corners, size)) if self.told else self.denoiser
        return Tiled(inner, corners, size, y)


def refined(method: Method, share: float) -> Method:
    """The method for a finer level: its walk starts part-way, in proportionally fewer steps."""
    walk = method.walk
    steps = max(1, round(walk.steps * share))
    length = min(walk.jump_length, max(1, steps - 1))
    again = walk.jump_n_sample if length < steps else 1
    return replace(method, walk=replace(walk, start=walk.start * share, steps=steps, jump_length=length, jump_n_sample=again))


def referred(picture: Picture, hole: np.ndarray, method: Method) -> Measured | None:
    """The picture as the reference of a method that wants one, when nothing else of it is known."""
    return reference(picture) if hole.all() and isinstance(method, ILVR) else None


def grown(hole: np.ndarray, pixels: int) -> np.ndarray:
    """The hole enlarged by `pixels` in every direction."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(~hole) <= pixels


def _cut(picture: Picture, hole: np.ndarray, box: Box) -> tuple[Tensor, Tensor]:
    """(picture (1, 3, h, w), known (1, 1, h, w)) in a box that may reach beyond the picture; what lies there is unknown."""
    inside = regions.clipped(box, picture.size)
    left, top = inside[0] - box[0], inside[1] - box[1]
    known = known_from_hole(regions.cut(hole, box, True))
    y = torch.zeros(1, 3, *known.shape[2:])
    y[:, :, top : top + inside[3] - inside[1], left : left + inside[2] - inside[0]] = picture.region(inside)
    return y * known, known


def changed_outside(before: Picture, after: Picture, hole: np.ndarray) -> float:
    """Largest difference outside the hole, alpha included, in units of the picture's own values."""
    pairs = [(before.pixels, after.pixels), *([] if before.alpha is None or after.alpha is None else [(before.alpha, after.alpha)])]
    worst = 0.0
    for old, new in pairs:
        where = ~hole & (old != new).reshape(*hole.shape, -1).any(-1)
        if where.any():
            worst = max(worst, float(np.abs(old[where].astype(np.float64) - new[where]).max()))
    return worst


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(name, False):
        raise UsageError(f"device {name!r} is not available here; use {', '.join(k for k, v in usable.items() if v)} or auto")
    return torch.device(name)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name == "auto":
        return torch.bfloat16 if catalog.bfloat16_is_fast(device) else torch.float32
    if name not in choices:
        raise UsageError(f"dtype {name!r} is not known; use auto, {', '.join(choices)}")
    return choices[name]
