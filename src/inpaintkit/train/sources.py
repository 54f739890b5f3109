"""The recipe's `[data]`: what the pictures or arrays of a run are, and one example of them for a generator."""

import itertools
from dataclasses import dataclass, field, replace
from glob import glob
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.settings import Settings
from inpaintkit.data.coverage import FIXED
from inpaintkit.data.datasets import Pictures, load
from inpaintkit.data.mask_sets import training_mask
from inpaintkit.data.masks import check_kind
from inpaintkit.data.splits import SHARES, SPLITS, check_shares

Share = Annotated[float, Field(ge=0)]
Part = Annotated[float, Field(ge=0, le=1)]
Shares = tuple[Share, Share, Share]
SMALLEST = 32
"""Pictures whose shorter side has fewer pixels, and fewer than the smallest crop, are never used."""


class Source(Protocol):
    """Opened data."""

    def draw(self, rng: np.random.Generator, batch: int, split: str) -> dict[str, np.ndarray]:
        """One example of a split, for a kind of batch (its number), from this generator only."""
        ...

    def count(self, split: str, batch: int | None = None) -> int:
        """Examples in a split, or those of them that a kind of batch can use."""
        ...

    def shapes(self, parts: int) -> list[tuple[int, int, int]]:
        """Of each kind of batch: items in one of so many equal parts, and the height and width of their examples."""
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

    path: Annotated[str, Field(min_length=1)]
    """Folder or tar; shell patterns allowed; relative to the data's `root`, unless it begins with a slash."""
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
    """Use only pictures whose shorter side has at least this many pixels (as read, so at most `short_side`)."""


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
    short_side: Annotated[int, Field(ge=8)] | None = None
    """Reduce larger pictures to this shorter side as they are read, so that more of them fit into memory."""
    mask_zoom: Annotated[tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(min_length=1)] = (1, 2, 4)
    """Masks are drawn on a canvas this many times the crop and cropped, so that strokes come at all relative widths."""
    coverage: tuple[Part, Part] | None = None
    """Share of the picture that a mask covers, from and to, all shares in between alike; no mask of one split is then one of another
    split. None: the coverage that each kind has by itself, and a mask may be one of another split. "all" covers all in any case."""
    split: Shares = SHARES
    """Shares of training, validation and test pictures, by content hash. Test pictures are never looked at."""

    def open(self) -> "PictureSource":
        """Read everything. Raises `BadInput` or `UsageError`, one line."""
        check_shares(self.split)
        for kind in self.masks:
            check_kind(kind, "data.masks.")
        if not sum(self.masks.values()) or not sum(batch.share for batch in self.batches):
            raise UsageError("the shares of data.masks, and those of data.batches, must not all be 0")
        self._check_masks()
        return PictureSource(self)

    def hole(self, rng: np.random.Generator, size: int, split: str) -> np.ndarray:
        """A mask `(size, size)`, True = hole, for an example of a split."""
        if self.coverage is None:
            return training_mask(rng, self.masks, size, self.mask_zoom)
        return training_mask(rng, self.masks, size, self.mask_zoom, split, self.coverage, self.split)

    def _check_masks(self) -> None:
        """Raise `UsageError` or `BadInput` unless every kind has masks of every size, with the coverage asked for."""
        if self.coverage is not None and self.coverage[0] > self.coverage[1]:
            raise UsageError(f"data.coverage = {self.coverage}: the smaller share comes first")
        kinds = [kind for kind, share in self.masks.items() if share]
        if self.coverage is not None and (single := [kind for kind in kinds if kind in FIXED[1:]]):
            raise UsageError(f"data.masks.{single[0]}: is one mask only, so its coverage cannot be chosen; leave it out, or data.coverage")
        for kind, batch, (split, share) in itertools.product(kinds, self.batches, zip(SPLITS, self.split, strict=True)):
            if share:
                replace(self, masks={kind: 1.0}).hole(np.random.default_rng(0), batch.size, split)


class PictureSource:
    """Pictures in memory, split by content."""

    def __init__(self, data: PictureData):
        self.data = data
        smallest = min(SMALLEST, *(batch.size for batch in data.batches))
        every = load(self._places(), data.prefix_weights, smallest, data.bad, data.short_side)
        self.skipped, self.unmet, self.small = every.skipped, every.unmet, every.small
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
        hole = self.data.hole(rng, kind.size, split)
        return {"x0": crop.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1, "known": 1 - hole[None].astype(np.float32)}

    def count(self, split: str, batch: int | None = None) -> int:
        return len((self.splits[split] if batch is None else self.pools[split, batch]).images)

    def shapes(self, parts: int) -> list[tuple[int, int, int]]:
        return [(batch.items // parts, batch.size, batch.size) for batch in self.data.batches]

    def notes(self) -> list[str]:
        left_out = [f"left out, {cause}: {file}" for file, cause in self.skipped]
        left_out += [f"data.prefix_weights.{prefix}: no picture's name begins so" for prefix in self.unmet]
        return left_out + [f"left out, too small: {self.small} pictures"] * bool(self.small)

    def about(self) -> dict[str, Any]:
        return {"pictures": self.count("train"), "digest": self.splits["train"].fingerprint}

    def _places(self) -> list[tuple[list[Path], float, int | None]]:
        places = []
        for source in self.data.sources:
            found = sorted(Path(self.data.root) / path for path in glob(source.path, root_dir=self.data.root, recursive=True))
            if not found:
                raise BadInput(f"{Path(self.data.root) / source.path}: nothing there; say where the pictures are with --set data.root=DIR")
            places.append((found, source.weight, source.limit))
        return places


def _at_least(pictures: Pictures, smallest: int, split: str) -> Pictures:
    large = [i for i, image in enumerate(pictures.images) if min(image.shape[:2]) >= smallest]
    if not large and split == "train":
        raise BadInput(f"smallest = {smallest}: none of the {len(pictures.images)} training pictures has as many pixels; lower it")
    return pictures.keep(large)
