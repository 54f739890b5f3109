"""What a row of a benchmark does with its picture: fills a hole it is told of, repairs one it is not, goes ring by ring, enlarges."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from inpaintkit.core.errors import UsageError
from inpaintkit.core.sampler import Method
from inpaintkit.core.settings import Settings
from inpaintkit.data.images import Picture, from_array
from inpaintkit.methods import METHODS
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.models import damage
from inpaintkit.models.catalog import DETECTOR
from inpaintkit.pipeline import two_stage, upscale
from inpaintkit.pipeline.blind import blind, check, find
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.fillers import Sampled
from inpaintkit.pipeline.job import Options, Step
from inpaintkit.pipeline.measured import reference
from inpaintkit.pipeline.onion import onion, rings
from inpaintkit.pipeline.plans import Work

GREY, BLACK = 127, 0
"""What stands in the hole of what is given: never the truth."""
Filled = tuple[Picture, dict[str, Any]]
"""The result and its record, of which `seconds`, `nfe` and perhaps `nfe_backward` are read."""
Load = Callable[[str, str], Any]
"""(device, dtype) -> a network. Raises `UsageError` or `BadInput`."""


@dataclass(frozen=True)
class Given:
    """What a task works with."""

    truth: np.ndarray
    """(H, W, 3) uint8; read outside the hole, or reduced, only."""
    hole: np.ndarray
    """(H, W) bool, True = hole."""
    name: str
    pipe: Inpainter
    method: Method | None
    options: Options
    others: Mapping[str, Any] = field(default_factory=dict)
    """The networks that tasks name, by their names."""
    seed: int = 0
    on_step: Callable[[Step], None] | None = None

    def holed(self, value: int) -> Picture:
        """The picture with `value` in its hole."""
        return from_array(np.where(self.hole[:, :, None], np.uint8(value), self.truth), self.name)

    def planned(self, hole: np.ndarray) -> Work:
        """That of one filling of a hole of this picture. Raises `UsageError`."""
        return Work.of(self.pipe, self.holed(GREY), hole, self.pipe.method(self.method), self.options)


@dataclass(frozen=True)
class Task(Settings, ABC):
    """What is done with a picture, by a model and a method."""

    @abstractmethod
    def fill(self, g: Given) -> Filled: ...

    def method(self, pipe: Inpainter, method: Method | None) -> Method:
        """What runs, None being the default one. Raises `UsageError`."""
        return pipe.method(method)

    def work(self, g: Given) -> Work:
        """What the network has to do. Raises `UsageError`."""
        return replace(g, method=self.method(g.pipe, g.method)).planned(g.hole)

    def needs(self) -> dict[str, Load]:
        """Networks besides the model's: name -> what loads it."""
        return {}

    @property
    def samples(self) -> bool:
        """Whether the model is asked at all."""
        return True


@dataclass(frozen=True)
class Fill(Task):
    """Fill the hole. ilvr with nothing known has the picture as its reference, to resemble."""

    kind: Literal["fill"] = "fill"

    def fill(self, g: Given) -> Filled:
        whole = g.hole.all() and isinstance(g.pipe.method(g.method), ILVR)
        picture = from_array(g.truth, g.name) if whole else g.holed(GREY)
        (result, *_), record = g.pipe.fill(picture, g.hole, g.method, g.seed, options=g.options, on_step=g.on_step)
        return result, record


@dataclass(frozen=True)
class Blind(Task):
    """The ILVR report's blind inpainting: the picture, black in its hole, is the reference; the hole is cut from what ilvr makes."""

    kind: Literal["blind"]

    def method(self, pipe: Inpainter, method: Method | None) -> Method:
        check(method)
        return pipe.method(method or METHODS["ilvr"])

    def fill(self, g: Given) -> Filled:
        (result, *_), record = blind(g.pipe, g.holed(BLACK), g.hole, g.method, g.seed, 1, g.options, g.on_step)
        return result, record

    def work(self, g: Given) -> Work:
        picture = g.holed(BLACK)
        return Work.of(g.pipe, picture, g.hole, self.method(g.pipe, g.method), g.options, reference(picture))


@dataclass(frozen=True)
class Found(Task):
    """The picture is black in its hole, and a detector has to find that; what it finds is filled, what it misses stays black."""

    kind: Literal["found"]
    detector: str = DETECTOR
    """A detector's folder."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The detector's own unless given."""

    def needs(self) -> dict[str, Load]:
        return {self.detector: lambda device, dtype: damage.load(self.detector)}

    def fill(self, g: Given) -> Filled:
        picture, began = g.holed(BLACK), time.perf_counter()
        hole = find(g.others[self.detector], picture, self.threshold)
        seconds = time.perf_counter() - began
        if not hole.any():
            return picture, {"seconds": round(seconds, 4), "nfe": 0}
        (result, *_), record = g.pipe.fill(picture, hole, g.method, g.seed, options=g.options, on_step=g.on_step)
        return result, record | {"seconds": round(record["seconds"] + seconds, 4)}


@dataclass(frozen=True)
class Onion(Task):
    """From the rim inwards, rings of so many pixels, each known to the next."""

    kind: Literal["onion"]
    ring: Annotated[int, Field(ge=1)] = 8

    def fill(self, g: Given) -> Filled:
        sampled = Sampled(g.pipe, g.method, g.seed, g.options)
        result, _ = onion(g.holed(GREY), g.hole, sampled, self.ring)
        return result, sampled.record

    def work(self, g: Given) -> Work:
        depth = rings(g.hole, self.ring)
        return sum((g.planned(depth >= k) for k in range(1, int(depth.max()) + 1)), Work())


@dataclass(frozen=True)
class Then(Task):
    """The DDGAN post's order: the model fills, then a generator goes over the hole once."""

    kind: Literal["then"]
    generator: str
    """A model trained as a GAN."""

    def needs(self) -> dict[str, Load]:
        return {self.generator: lambda device, dtype: Inpainter.from_pretrained(self.generator, device, dtype)}

    def fill(self, g: Given) -> Filled:
        other = g.others[self.generator]
        (result, *_), record = two_stage.two_stage(g.pipe, other, g.holed(GREY), g.hole, g.method, g.seed, 1, g.options, g.on_step)
        return result, record

    def work(self, g: Given) -> Work:
        return g.planned(g.hole) + Work(g.options.calls, g.options.calls * g.hole.size)


@dataclass(frozen=True)
class Enlarge(Task):
    """Make the picture smaller and large again; the hole should be the whole picture (masks.kinds = ["all"])."""

    kind: Literal["upscale"]
    how: Literal["bicubic", "operator", "bicubic-mask", "insert-mask", "ilvr"] = "operator"
    """As `inpaintkit upscale --how`; bicubic: enlargement alone, by no network. The mask ways are told that the input is
    decimated, whatever it is."""
    factor: Literal[2, 4] = 2
    input: Literal["averaged", "decimated"] = "averaged"
    """How the picture is made smaller: means of cells, or their top left pixels."""
    average: Annotated[int, Field(ge=1, le=64)] | None = None
    """Samples whose mean the result is; as `inpaintkit upscale` unless given."""

    def settings(self) -> upscale.Upscale:
        assert self.how != "bicubic"
        told = self.input == "decimated" or self.how.endswith("mask")
        return upscale.Upscale(self.factor, self.how, decimated=told, average=self.average)

    def small(self, truth: np.ndarray) -> np.ndarray:
        """The picture (H, W, 3) uint8 made smaller."""
        n = self.factor
        if self.input == "decimated":
            return np.ascontiguousarray(truth[::n, ::n])
        h, w = (side // n for side in truth.shape[:2])
        cells = truth[: h * n, : w * n].reshape(h, n, w, n, 3).mean((1, 3))
        return np.asarray(cells.round(), np.uint8)

    def fill(self, g: Given) -> Filled:
        picture = from_array(self.small(g.truth), g.name)
        if self.how == "bicubic":
            began = time.perf_counter()
            large = upscale.enlarged(picture, self.factor, corners=self.input == "decimated")
            return large, {"seconds": round(time.perf_counter() - began, 4), "nfe": 0}
        (result, *_), record = upscale.upscale(g.pipe, picture, self.settings(), g.method, g.seed, 1, g.options, g.on_step)
        return result, record

    def method(self, pipe: Inpainter, method: Method | None) -> Method:
        return pipe.method(method or (upscale.own(self.settings()) if self.samples else None))

    @property
    def samples(self) -> bool:
        return self.how != "bicubic"

    def work(self, g: Given) -> Work:
        if uneven := [side for side in g.hole.shape if side % self.factor]:
            raise UsageError(f"task.factor = {self.factor}: does not divide {uneven[0]} px; choose an images.size that it divides")
        if not self.samples:
            return Work()
        e = upscale.asked(from_array(self.small(g.truth), g.name), self.settings(), g.method)
        once = Work.of(g.pipe, e.large, e.hole, g.pipe.method(e.method), g.options, e.measured)
        return sum([once] * e.count, Work())


AnyTask = Annotated[Fill | Blind | Found | Onion | Then | Enlarge, Field(discriminator="kind")]
FILL = Fill()
