"""Training pictures in memory: folders and WebDataset-style tars, split by content, deterministic crops.

A folder is read with all its sub-folders, so the layouts of the field need no option: CelebA-HQ (`0.jpg` ...),
CelebAMask-HQ (its label pictures are left out), Places365 (`data_256/a/abbey/*.jpg`, `val_256/*.jpg`) and
`train/abbey/*.jpg`. Name the folder of the official training pictures, not its parent, to keep official test pictures out.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from inpaintkit.core.errors import BadInput, InpaintError, OverLimit, UsageError
from inpaintkit.core.memory import available
from inpaintkit.data.decoding import printable
from inpaintkit.data.members import Member, contents, members
from inpaintkit.data.picture import LIMITS, Limits, Picture
from inpaintkit.data.reading import read_picture
from inpaintkit.data.splits import SHARES, SPLITS, check_shares, digest, split_at


class Source(NamedTuple):
    """Where pictures are; a plain tuple will do."""

    paths: Path | Sequence[Path]
    """A folder or a tar, or several that count as one."""
    weight: float = 1.0
    """How often one of its pictures is drawn, relative to those of other sources."""
    limit: int | None = None
    """At most so many pictures, those whose names (relative to folder or tar) hash lowest: spread evenly over sub-folders,
    the same on every machine, and those of a smaller limit are among those of a larger one."""


class Skipped(NamedTuple):
    """A file that could not be read."""

    file: str
    cause: str


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures `(H, W, 3)` uint8 with their names, and how often each is drawn (weights sum to 1)."""

    images: list[np.ndarray]
    names: list[str]
    weights: np.ndarray
    digests: np.ndarray | None = None
    """32 bits of each picture's content hash, taken before `load` reduced it; of `images` where not given."""
    skipped: tuple[Skipped, ...] = ()
    """Files that `load` left out because they could not be read."""
    unmet: tuple[str, ...] = ()
    """Prefixes given to `load` that no picture's name begins with."""
    small: int = 0
    """How many more `load` left out because they were too small."""

    def crop(self, rng: np.random.Generator, size: int, native: float = 0.5) -> np.ndarray:
        """A random square `(size, size, 3)` uint8 of a random picture, flipped half of the time.

        With probability `native` at the picture's own resolution, else from a log-uniform larger square, reduced.
        Pictures smaller than `size` are enlarged.
        """
        image = self.images[int(np.searchsorted(self._reached, rng.random()).clip(0, len(self.images) - 1))]
        h, w = image.shape[:2]
        low, high = np.log(min(size, h, w)), np.log(min(h, w))
        side = min(round(float(np.exp(low if rng.random() < native else rng.uniform(low, high)))), h, w)
        top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
        square = image[top : top + side, left : left + side]
        if side != size:
            square = np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))
        return square[:, ::-1] if rng.random() < 0.5 else square

    def keep(self, chosen: Sequence[int]) -> "Pictures":
        weights = self.weights[list(chosen)]
        digests = None if self.digests is None else self.digests[list(chosen)]
        return Pictures([self.images[i] for i in chosen], [self.names[i] for i in chosen], weights / weights.sum(), digests)

    def split(self, shares: Sequence[float] = SHARES) -> dict[str, "Pictures"]:
        """The pictures of each of `SPLITS`, by a hash of their decoded content: adding pictures moves none of the others.

        Copies of one picture lie in one split; a resized or recompressed copy is another picture. A split may be
        empty. Raises `UsageError` for shares that are not three of at least 0 that sum to 1.
        """
        check_shares(shares)
        places = [split_at(int(value), shares) for value in self._digests]
        return {split: self.keep([i for i, place in enumerate(places) if place == split]) for split in SPLITS}

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the content, size, order or weight of any picture; not with where they lie."""
        shapes = np.array([image.shape[:2] for image in self.images], "<u4")
        parts = self._digests.astype("<u4"), shapes, self.weights.astype("<f8").round(12)
        return hashlib.blake2b(b"".join(part.tobytes() for part in parts), digest_size=8).hexdigest()

    @cached_property
    def _digests(self) -> np.ndarray:
        return np.array([digest(image.tobytes()) for image in self.images], np.uint32) if self.digests is None else self.digests

    @cached_property
    def _reached(self) -> np.ndarray:
        return np.cumsum(self.weights)


def load(
    sources: Sequence[Source | tuple],
    prefix_weights: dict[str, float],
    smallest: int = 32,
    bad: Literal["refuse", "skip"] = "refuse",
    short_side: int | None = None,
    limits: Limits = LIMITS,
    memory: int | None = None,
) -> Pictures:
    """Decode every picture of the sources, each `(path, weight)` or `(path, weight, limit)`, upright and as 8-bit RGB.

    What becomes of each kind of pixel is stated in `formats.py`; alpha is dropped, 16 bits are rounded to 8. A picture
    whose name starts with a key of `prefix_weights` is drawn that much more or less often. Left out are pictures whose
    shorter side has fewer than `smallest` pixels, those of weight 0, and what `members.py` says.

    All pictures are kept in memory, height x width x 3 bytes each: a million of 256 x 256 px are 197 GB. `short_side`
    reduces the larger ones to that shorter side as they are read, without changing their split; a source's limit takes fewer.

    Raises `BadInput` for a source that is none, when nothing is left, and, unless `bad` is "skip" (the files are then in
    `skipped`), for the first file that cannot be read; `OverLimit` when the pictures take more than `memory` bytes
    (80 % of the machine's unless given); `UsageError` for arguments out of their bounds.
    """
    loading = _Loading(smallest, bad, short_side, limits, memory or available() * 8 // 10)
    asked = [Source(*source) for source in sources]
    for source in asked:
        if source.limit is not None and source.limit < 1:
            raise UsageError(f"limit = {source.limit}: takes no picture; give at least 1")
    loading.unmet = dict.fromkeys(prefix_weights)
    for source in asked:
        loading.read(source, prefix_weights)
    return loading.pictures(asked)


class _Loading:
    """What has been read so far, and what may be."""

    def __init__(self, smallest: int, bad: str, short_side: int | None, limits: Limits, memory: int):
        if bad not in ("refuse", "skip"):
            raise UsageError(f"bad = {bad!r}: not a policy for files that cannot be read; choose refuse or skip")
        if short_side is not None and short_side < smallest:
            raise UsageError(f"short_side = {short_side}: below smallest = {smallest}, the smallest pictures wanted; raise it")
        self.smallest, self.bad, self.short_side, self.limits, self.memory = smallest, bad, short_side, limits, memory
        self.images: list[np.ndarray] = []
        self.names: list[str] = []
        self.weights: list[float] = []
        self.digests: list[int] = []
        self.skipped: list[Skipped] = []
        self.unmet: dict[str | None, None] = {}
        self.small = self.bytes = 0

    def read(self, source: Source, prefix_weights: dict[str, float]) -> None:
        """Add a source's pictures in the order they are listed. Where some of its limit cannot be used, the next in line are."""
        found: dict[Member, float] = {}
        for path in _paths(source):
            for member in members(path, self.damaged):
                prefix = next((prefix for prefix in prefix_weights if member.name.removeprefix("./").startswith(prefix)), None)
                self.unmet.pop(prefix, None)
                found[member] = source.weight * (1.0 if prefix is None else prefix_weights[prefix])
        listed = [member for member, weight in found.items() if weight]
        place = {member: i for i, member in enumerate(listed)}
        queue = listed if source.limit is None else sorted(listed, key=lambda member: (_rank(member.name), place[member]))
        wanted, kept = source.limit or len(listed), dict[Member, tuple[np.ndarray, int]]()
        while queue and len(kept) < wanted:
            chosen, queue = queue[: wanted - len(kept)], queue[wanted - len(kept) :]
            for member, content in contents(sorted(chosen, key=place.__getitem__), self.limits):
                if (decoded := self.decoded(member, content)) is not None:
                    kept[member] = decoded
        for member in sorted(kept, key=place.__getitem__):
            self.images.append(kept[member][0])
            self.digests.append(kept[member][1])
            self.names.append(member.name)
            self.weights.append(found[member])

    def decoded(self, member: Member, content: Path | bytes | InpaintError) -> tuple[np.ndarray, int] | None:
        """A picture `(H, W, 3)` uint8, reduced to `short_side`, and the digest of all of it; None when it is left out."""
        try:
            if isinstance(content, InpaintError):
                raise content
            image = _rgb(read_picture(content, self.limits, str(member)))
        except InpaintError as error:
            cause = str(error).removeprefix(f"{member}: ").rpartition("; ")
            self.damaged(str(member), f"not a readable picture ({cause[0] or cause[2]})", "remove it")
            return None
        if min(image.shape[:2]) < self.smallest:
            self.small += 1
            return None
        content_digest = digest(image.tobytes())
        if self.short_side is not None and (scale := self.short_side / min(image.shape[:2])) < 1:
            size = max(self.short_side, round(image.shape[1] * scale)), max(self.short_side, round(image.shape[0] * scale))
            image = np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        self.bytes += image.nbytes
        if self.bytes > self.memory:
            raise OverLimit(
                f"{member}: with it the pictures take more than {self.memory:,} bytes; set a limit, or a short_side to keep them smaller"
            )
        return image, content_digest

    def damaged(self, file: str, cause: str, advice: str) -> None:
        if self.bad == "refuse":
            raise BadInput(f'{file}: {cause}; {advice}, or leave bad files out with bad = "skip"')
        self.skipped.append(Skipped(file, cause))

    def pictures(self, sources: Sequence[Source]) -> Pictures:
        if not self.images:
            paths = [path for source in sources for path in _paths(source)]
            more = [f"{self.small} are smaller"] * (self.small > 0) + [f"{len(self.skipped)} cannot be read"] * bool(self.skipped)
            tars = next((f"; name the tars in it: {path}/*.tar" for path in paths if path.is_dir() and any(path.glob("*.tar"))), None)
            raise BadInput(
                f"{printable(', '.join(map(str, paths)))}: no pictures of at least {self.smallest} px with a weight above 0 found"
                + (f" ({', '.join(more)})" if more else "") + (tars or "; check the path, weights and sizes")
            )  # fmt: skip
        weights = np.array(self.weights) / sum(self.weights)
        return Pictures(
            self.images,
            self.names,
            weights,
            np.array(self.digests, np.uint32),
            tuple(self.skipped),
            tuple(map(str, self.unmet)),
            self.small,
        )


def _paths(source: Source) -> list[Path]:
    return [Path(source.paths)] if isinstance(source.paths, str | Path) else [Path(path) for path in source.paths]


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()


def _rgb(picture: Picture) -> np.ndarray:
    """The colours of a picture as `(H, W, 3)` uint8."""
    pixels = picture.pixels
    if pixels.dtype.kind != "u":
        raise BadInput(f"{picture.name}: holds floats; save it as a picture")
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
