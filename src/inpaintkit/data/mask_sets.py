"""Masks for training and evaluation: a mask is a function of (seed, split, index), and no two splits share one.

Which split a mask belongs to is decided by its own pixels, as for pictures (`splits.py`): one that belongs to another split
is drawn again. So splits of any size, made anywhere at any time, never hold the same mask, and nothing has to be remembered.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import numpy as np

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.coverage import COVERAGE, FIXED, covering, strata, zoomed
from inpaintkit.data.masks import MASKS, Mask, Rng, check_kind
from inpaintkit.data.splits import SHARES, SPLITS, check_split, split_of

Range = tuple[float, float]
SMALLEST = 0.01
"""A mask drawn without a range of coverage has more hole than this."""


def training_mask(
    rng: Rng,
    shares: Mapping[str, float],
    size: int,
    zoom: Sequence[int] = (1, 2, 4),
    split: str | None = None,
    coverage: Range | None = None,
    split_shares: Sequence[float] = SHARES,
) -> Mask:
    """A mask `(size, size)` for an example drawn with `rng`: a kind by `shares`, `zoomed`.

    Without a split its coverage is what the kind gives, and it may be one of another split's. With one it is a `mask` of that
    split, of random seed and index. Raises as `mask`, and `BadInput` for a kind that never has a hole at this size.
    """
    if split is None:
        return _own(_pick(shares, rng), (size, size), rng, zoom)
    return mask(shares, (size, size), split, int(rng.integers(1 << 62)), int(rng.integers(1 << 31)), coverage, zoom, split_shares)


def mask(
    shares: Mapping[str, float],
    size: tuple[int, int],
    split: str,
    seed: int,
    index: int,
    coverage: Range | None = COVERAGE,
    zoom: Sequence[int] = (1,),
    split_shares: Sequence[float] = SHARES,
) -> Mask:
    """Mask number `index` of a split, bool (H, W), True = hole; `size` is (W, H), `shares` says how often each kind comes.

    The range `coverage` is cut into bins of about 5 % and the index takes them in turn, so that every kind comes at every
    coverage: number i covers a share of the picture in `strata(*coverage)[i % len]`, counted after cropping to `size`. Where
    the kind has no mask of the split in that bin (`outpaint` of 24 x 24 px has about ten in the lowest) the whole range is taken. None
    leaves coverage to the kind. `zoom` as in `coverage.zoomed`. The same on every machine with the same Pillow.

    The kind "all" (nothing is known) is no mask but a task: it is given as it is, in every split and at every coverage.

    Raises `UsageError` for an unknown kind, split or range, and `BadInput`, naming the kind, when too few masks of it exist
    for one of them to belong to the split: of `half` without a range there are four.
    """
    return next(_drawn(shares, size, split, seed, index, coverage, zoom, split_shares))


def unique(
    shares: Mapping[str, float],
    size: tuple[int, int],
    split: str,
    seed: int,
    coverage: Range | None = COVERAGE,
    zoom: Sequence[int] = (1,),
    split_shares: Sequence[float] = SHARES,
) -> Iterator[Mask]:
    """Masks 0, 1, 2, ... of a split without repeats, for a set that is written down; endless.

    Each is that of `mask`, but where it came before: then the next in its own line. Raises as `mask`, and `BadInput` when
    a kind has no further mask, `UsageError` for the kind "all", which has one.
    """
    if shares.get("all"):
        raise UsageError("all: is one mask only, so a set without repeats cannot hold it; leave it out")
    seen: set[bytes] = set()
    for index in count():
        for hole in _drawn(shares, size, split, seed, index, coverage, zoom, split_shares):
            key = hashlib.blake2b(content(hole), digest_size=16).digest()
            if key not in seen:
                break
        else:
            kind = _pick(shares, _rng(seed, split, index, 0))
            raise BadInput(f"{kind}: all of its masks found at {size[0]}x{size[1]} came before ({len(seen)} in the set); take fewer")
        seen.add(key)
        yield hole


def content(hole: Mask) -> bytes:
    """What tells a mask from all others: its size and its pixels, packed."""
    return f"{hole.shape[1]}x{hole.shape[0]} ".encode() + np.packbits(hole).tobytes()


def _drawn(
    shares: Mapping[str, float], size: tuple[int, int], split: str, seed: int, index: int,
    coverage: Range | None, zoom: Sequence[int], split_shares: Sequence[float],
) -> Iterator[Mask]:  # fmt: skip
    """The masks that number `index` may be, in turn, at least one: one kind, in its bin, then in the whole range."""
    check_split(split, split_shares)
    kind = _pick(shares, _rng(seed, split, index, 0))
    single = next((name for name in FIXED[1:] if shares.get(name)), None)
    if coverage and single:
        raise UsageError(f"{single}: is one mask only, so its coverage cannot be chosen; leave it out, or pass no range of coverage")
    if kind == "all":
        yield MASKS[kind](size, _rng(seed, split, index, 1))
        return
    bins = strata(*coverage) if coverage else []
    spans = [bins[index % len(bins)], coverage] if coverage else [None]
    # an attempt hits its split with the probability of the split's share: missing it so often has a chance of e^-40
    attempts = math.ceil(40 / split_shares[SPLITS.index(split)])
    hit = False
    for i, span in enumerate(spans):
        for attempt in range(1 + i * attempts, 1 + (i + 1) * attempts):
            rng = _rng(seed, split, index, attempt)
            try:
                hole = covering(kind, size, rng, *span, zoom) if span else _own(kind, size, rng, zoom)
            except BadInput:  # a bin between two numbers of rows
                if span == spans[-1]:
                    raise
                break
            if split_of(content(hole), split_shares) == split:
                hit = True
                yield hole
    if not hit:
        more = "" if coverage else ", or ask for a range of coverage, which varies it"
        raise BadInput(
            f"{kind}: none of {len(spans) * attempts} masks drawn at {size[0]}x{size[1]} belongs to the {split} split; leave it out{more}"
        )


def _own(kind: str, size: tuple[int, int], rng: Rng, zoom: Sequence[int]) -> Mask:
    """A mask with the coverage its kind gives; drawn again while that is 1 % or less."""
    for _ in range(1000):
        if (hole := zoomed(kind, size, rng, zoom)).mean() > SMALLEST:
            return hole
    raise BadInput(f"{kind}: covers 1 % or less of {size[0]}x{size[1]} pixels; choose a larger size or another kind")


def _pick(shares: Mapping[str, float], rng: Rng) -> str:
    total = sum(shares.values())
    if not total > 0:
        raise UsageError("masks: all shares are 0; give one kind a share above 0")
    for kind in shares:
        check_kind(kind)
    return list(shares)[int(rng.choice(len(shares), p=np.array(list(shares.values())) / total))]


def _rng(seed: int, split: str, index: int, attempt: int) -> Rng:
    return np.random.default_rng([seed, SPLITS.index(split), index, attempt])
