"""Filling the hole of a picture: `Inpainter`, the call everything else goes through."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from inpaintkit.core.errors import BadInput, OverLimit, UsageError, out_of_memory
from inpaintkit.core.noise import derived
from inpaintkit.core.sampler import Method
from inpaintkit.core.settings import checked, dumped
from inpaintkit.data.images import Picture, check_hole, read_mask, to_picture
from inpaintkit.methods import named
from inpaintkit.methods.gradient import GradientMethod
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.models import catalog
from inpaintkit.models.control import ControlNetwork
from inpaintkit.models.denoisers import Calls, NetworkDenoiser
from inpaintkit.models.unet import channels, classes
from inpaintkit.pipeline import regions
from inpaintkit.pipeline.job import Job, Options, Step
from inpaintkit.pipeline.measured import Measured, reference
from inpaintkit.pipeline.regions import Region


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
            if not isinstance(method, Method):
                raise UsageError(f"method = {method!r}: is no method; pass one of inpaintkit.methods.METHODS, such as METHODS['ddnm']")
            return checked(type(method), method)
        try:
            return named(self.model.network.config.default_method)
        except UsageError as error:
            raise BadInput(f"{self.model.name}: its default method {error}") from None

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
        if not isinstance(seed, int) or not isinstance(variants, int):
            raise UsageError(f"seed = {seed!r}, variants = {variants!r}: both are whole numbers")
        if seed < 0 or variants < 1:
            raise UsageError(f"seed = {seed}, variants = {variants}: the seed must be at least 0 and the variants at least 1")
        if (count := channels(self.model.network)) != 3:
            raise UsageError(f"{self.model.name}: makes {count}-channel arrays, not pictures; name a model of RGB pictures")
        if isinstance(self.model.network, ControlNetwork) and self.model.network.config.units is not None:
            raise UsageError(f"{self.model.name}: makes fields, not pictures; inpaintkit science fill takes it")
        notes = check_hole(hole, picture.name, picture)
        measured = measured or referred(picture, hole, chosen)
        if measured is not None and hole.all():
            notes = ()  # not of the model's own making: it is to agree with what was measured
        if o.grow > 0:
            hole = grown(hole, o.grow)
        if o.guidance is not None and not self.denoiser.conditioned:
            raise UsageError(f"{self.model.name}: is told nothing, so it cannot be guided; leave --guidance away")
        told = self.denoiser.conditioned and (o.tell_network or chosen.tells_network or o.guidance is not None)
        labels = self._labels(o.label, range(seed, seed + variants))
        frugal = isinstance(chosen, GradientMethod) and chosen.frugal
        denoiser = replace(self.denoiser, calls=Calls(), frugal=frugal, labels=None if labels is None else torch.tensor(labels))
        job = Job(denoiser, chosen, o, told, self.device, on_step, measured)
        planned = self.plan(hole, o, chosen, measured)
        try:
            filled = list(job.run(picture, hole, planned, [seed + k for k in range(variants)]))
        except Exception as error:
            if not out_of_memory(error):
                raise
            said = f"out of memory on {self.device} ({str(error)[:80]})"
            raise OverLimit(f"{picture.name}: {said}; use fewer variants or a smaller hole") from None
        if not all(values.isfinite().all() for _, values in filled):
            how = "see `inpaintkit models check`, or take the method's defaults"
            raise BadInput(
                f"{self.model.name}: NaN or infinity came of {picture.name}: its weights are damaged, or the method diverged; {how}"
            )
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


def referred(picture: Picture, hole: np.ndarray, method: Method) -> Measured | None:
    """The picture as the reference of a method that wants one, when nothing else of it is known."""
    return reference(picture) if hole.all() and isinstance(method, ILVR) else None


def grown(hole: np.ndarray, pixels: int) -> np.ndarray:
    """The hole enlarged by `pixels` in every direction."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(~hole) <= pixels


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
