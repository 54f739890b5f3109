"""The recipe's `[data]`: what the pictures or arrays of a run are, and one example of them for a generator."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.settings import Settings
from inpaintkit.data import arrays
from inpaintkit.data.datasets import Pictures, load
from inpaintkit.data.mask_sets import training_mask
from inpaintkit.data.masks import MASKS
from inpaintkit.data.splits import SHARES, SPLITS

Share = Annotated[float, Field(ge=0)]
Portion = Annotated[float, Field(gt=0, le=1)]
Shares = tuple[Share, Share, Share]


class Source(Protocol):
    """Opened data."""

    def draw(self, rng: np.random.Generator, batch: int, split: str) -> dict[str, np.ndarray]:
        """One example of a split, for a kind of batch (its number), from this generator only."""
        ...

    def count(self, split: str, batch: int | None = None) -> int:
        """Examples in a split, or those of them that a kind of batch can use."""
        ...

    def notes(self) -> list[str]:
        """What is worth telling about the data, in lines."""
        ...

    def about(self) -> dict[str, Any]:
        """What tells these data from others: a resumed run must find the same."""
        ...


@dataclass(frozen=True)
class Folder(Settings):
    """Pictures to train on."""

    path: str
    """Folder or tar; shell patterns allowed; relative to the data's `root`."""
    weight: Share = 1.0
    """How often one of its pictures is drawn, relative to the others."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use so many of its pictures only, the same ones every time."""


@dataclass(frozen=True)
class ArrayBatch(Settings):
    """One kind of batch; training draws among the kinds by `share`."""

    items: Annotated[int, Field(ge=1)]
    """Items in a batch, over all processes."""
    size: Annotated[int, Field(ge=8)] | None = None
    """Side of random square crops, positions; None: the fields as they are."""
    share: Share = 1.0
    """How often this kind is drawn."""


@dataclass(frozen=True)
class Batch(ArrayBatch):
    """One kind of batch of pictures."""

    size: Annotated[int, Field(ge=8)] = 64
    """Side of the crops, pixels."""
    smallest: Annotated[int, Field(ge=1)] = 1
    """Use only pictures whose shorter side has at least this many pixels."""


@dataclass(frozen=True)
class PictureData(Settings):
    """Folders and tars of pictures, with procedural masks."""

    sources: Annotated[tuple[Folder, ...], Field(min_length=1)]
    masks: dict[str, Share]
    """Mask kinds and how often each is drawn. "all" is the share of pictures of which nothing is known."""
    batches: Annotated[tuple[Batch, ...], Field(min_length=1)]
    kind: Literal["pictures"] = "pictures"
    root: str = "."
    """Folder that the sources are relative to."""
    prefix_weights: dict[str, Share] = field(default_factory=dict)
    """Pictures whose name starts so are drawn that much more or less often."""
    bad: Literal["refuse", "skip"] = "refuse"
    """What a picture that cannot be read does: end the run before it starts, or be left out and named."""
    mask_zoom: tuple[Annotated[int, Field(ge=1, le=8)], ...] = (1, 2, 4)
    """Masks are drawn on a canvas this many times the crop and cropped, so that strokes come at all relative widths."""
    split: Shares = (0.75, 0.15, 0.10)
    """Shares of training, validation and test pictures, by content hash. Test pictures are never looked at."""

    def open(self) -> "PictureSource":
        """Read everything. Raises `BadInput` or `UsageError`, one line."""
        if unknown := set(self.masks) - set(MASKS):
            raise UsageError(f"data.masks.{min(unknown)} is not a mask kind; there are {', '.join(MASKS)}")
        if not sum(self.masks.values()) or not sum(batch.share for batch in self.batches):
            raise UsageError("the shares of data.masks, and those of data.batches, must not all be 0")
        return PictureSource(self)


class PictureSource:
    """Pictures in memory, split by content."""

    def __init__(self, data: PictureData):
        self.data = data
        every = load(self._places(), data.prefix_weights, bad=data.bad)
        self.skipped, self.small = every.skipped, every.small
        self.splits = every.split(data.split)
        if not self.splits["train"].images:
            raise BadInput(f"{data.root}: none of its {len(every.images)} pictures is left to train on; add pictures or change data.split")
        self.pools = {
            (split, i): _at_least(self.splits[split], batch.smallest, split) for split in SPLITS for i, batch in enumerate(data.batches)
        }

    def draw(self, rng: np.random.Generator, batch: int, split: str) -> dict[str, np.ndarray]:
        """`x0` `(3, H, W)` in [-1, 1] and `known` `(1, H, W)`, 1 = known."""
        kind = self.data.batches[batch]
        crop = self.pools[split, batch].crop(rng, kind.size)
        hole = training_mask(rng, self.data.masks, kind.size, self.data.mask_zoom)
        return {"x0": crop.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1, "known": 1 - hole[None].astype(np.float32)}

    def count(self, split: str, batch: int | None = None) -> int:
        return len((self.splits[split] if batch is None else self.pools[split, batch]).images)

    def notes(self) -> list[str]:
        left_out = [f"left out, {cause}: {file}" for file, cause in self.skipped]
        return left_out + [f"left out, too small: {self.small} pictures"] * bool(self.small)

    def about(self) -> dict[str, Any]:
        return {"pictures": self.count("train"), "digest": self.splits["train"].fingerprint}

    def _places(self) -> list[tuple[Path, float, int | None]]:
        places = []
        for source in self.data.sources:
            found = sorted(Path(self.data.root).glob(source.path))
            if not found:
                raise BadInput(f"{Path(self.data.root) / source.path}: nothing there; say where the pictures are with --set data.root=DIR")
            places += [(path, source.weight, source.limit) for path in found]
        return places


@dataclass(frozen=True)
class ArrayData(Settings):
    """Paired arrays: dense fields, and what was measured of them."""

    kind: Literal["arrays"]
    path: str
    """Folder or .npz file as `data/arrays.py` describes it, relative to `root`."""
    batches: Annotated[tuple[ArrayBatch, ...], Field(min_length=1)]
    root: str = "."
    """Folder that the path is relative to."""
    points: tuple[Portion, Portion] | None = None
    """Training draws anew, for every item, which values are known: a share of the points between these two, uniform; at least one.
    None: the mask of the data. Held-out items always have the data's mask, where there is one."""
    turn: bool = False
    """Training turns and mirrors fields at random. Only for fields that know no direction, told by single values."""
    split: Shares = SHARES
    """Shares of training, validation and test items, by content hash. Test items are never looked at."""

    def open(self) -> "ArraySource":
        """Read everything. Raises `BadInput` or `UsageError`, one line."""
        if self.points is not None and self.points[0] > self.points[1]:
            raise UsageError(f"data.points = {self.points}: the smaller share comes first")
        if not sum(batch.share for batch in self.batches):
            raise UsageError("the shares of data.batches must not all be 0")
        return ArraySource(self)


class ArraySource:
    """Paired arrays, split by content."""

    def __init__(self, data: ArrayData):
        self.data = data
        self.all = arrays.read(Path(data.root) / data.path)
        self.splits = dict(zip(SPLITS, self.all.split(data.split), strict=True))
        self.sides = self.all.cond.shape[1:3]
        if (largest := max(batch.size or 0 for batch in data.batches)) > min(self.sides):
            raise UsageError(f"data.batches: size = {largest}, but the fields have {self.sides[0]} x {self.sides[1]} positions")
        if self.all.hole is None and data.points is None and data.turn:
            raise UsageError("data.turn: what is measured along rows or over squares may not be turned; set it to false")

    def draw(self, rng: np.random.Generator, batch: int, split: str) -> dict[str, np.ndarray]:
        """`x0` `(C, H, W)`, `cond` `(C', H, W)`, both scaled, and `known` `(1, H, W)`, 1 = known; float32."""
        pool, size = self.splits[split], self.data.batches[batch].size
        target, cond, known = (part.numpy() for part in pool.item(int(rng.integers(len(pool)))))
        found = {"x0": target, "cond": cond, "known": known}
        if size is not None:
            top, left = (int(rng.integers(side - size + 1)) for side in self.sides)
            found = {name: part[:, top : top + size, left : left + size] for name, part in found.items()}
        if self.data.points is not None and (split == "train" or self.all.hole is None):
            found["known"] = _points(rng, self.data.points, found["known"].shape)
        if self.data.turn and split == "train":
            quarters, mirrored = int(rng.integers(4)), rng.random() < 0.5
            found = {name: np.rot90(part[:, :, ::-1] if mirrored else part, quarters, (1, 2)) for name, part in found.items()}
        return {name: np.ascontiguousarray(part) for name, part in found.items()}

    def count(self, split: str, batch: int | None = None) -> int:
        return len(self.splits[split])

    def notes(self) -> list[str]:
        return []

    def about(self) -> dict[str, Any]:
        """With what a network must know of the data: channels, sides, scale, units."""
        a, (channels, cond_channels) = self.all, self.all.channels
        digest = hashlib.blake2b(np.ascontiguousarray(a.target).tobytes(), digest_size=8).hexdigest()
        return {
            "items": self.count("train"),
            "digest": digest,
            "channels": channels,
            "cond_channels": cond_channels,
            "size": max(batch.size or max(self.sides) for batch in self.data.batches),
            "units": str(a.about.get("units", "")),
            "mean": list(a.scale.mean),
            "std": list(a.scale.std),
            "cond_mean": list(a.cond_scale.mean),
            "cond_std": list(a.cond_scale.std),
        }


def _points(rng: np.random.Generator, shares: tuple[float, float], shape: tuple[int, ...]) -> np.ndarray:
    """Which values are known, `(1, H, W)` float32: so large a share of the points, anywhere."""
    count = shape[1] * shape[2]
    known = np.zeros(count, np.float32)
    known[rng.permutation(count)[: max(1, round(rng.uniform(*shares) * count))]] = 1
    return known.reshape(shape)


def _at_least(pictures: Pictures, smallest: int, split: str) -> Pictures:
    large = [i for i, image in enumerate(pictures.images) if min(image.shape[:2]) >= smallest]
    if not large and split == "train":
        raise BadInput(f"smallest = {smallest}: none of the {len(pictures.images)} training pictures has as many pixels; lower it")
    return pictures.keep(large)
