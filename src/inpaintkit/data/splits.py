"""Which split a picture or mask belongs to: decided by its content alone, so adding, renaming or reordering moves nothing."""

import hashlib
import math
from collections.abc import Sequence

from inpaintkit.core.errors import UsageError

SPLITS = ("train", "validation", "test")
SHARES = (0.75, 0.15, 0.10)
"""Shares of the three splits unless others are asked for."""


def digest(content: bytes) -> int:
    """32 bits of the BLAKE2b hash of `content`, in [0, 2^32)."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest(), "big")


def split_of(content: bytes, shares: Sequence[float] = SHARES) -> str:
    """The split of `content`, one of `SPLITS`. Raises `UsageError` as `check_shares`."""
    check_shares(shares)
    return split_at(digest(content), shares)


def split_at(value: int, shares: Sequence[float] = SHARES) -> str:
    """The split of what has this `digest`.

    With u = digest / 2^32: test when u < its share, validation when u < the shares of both, else train. So a smaller
    share of test lies inside a larger one, and what was held out of training stays out of it while train only shrinks.
    """
    total, (_, validation, test) = sum(reversed(shares)), shares
    u = value / 2**32
    return "test" if u < test / total else "validation" if u < (test + validation) / total else "train"


def check_shares(shares: Sequence[float]) -> None:
    """Raise `UsageError` unless these are three shares of at least 0 that sum to 1 (within 1e-6)."""
    if len(shares) != 3 or not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        given = ", ".join(f"{share:g}" for share in shares)
        raise UsageError(f"shares = ({given}): not a split; give three shares of at least 0 for {', '.join(SPLITS)} that sum to 1")


def check_split(split: str, shares: Sequence[float] = SHARES) -> None:
    """Raise `UsageError` unless this is one of `SPLITS` and its share is above 0."""
    check_shares(shares)
    if split not in SPLITS:
        raise UsageError(f"split = {split!r}: no such split; choose {', '.join(SPLITS)}")
    if not shares[SPLITS.index(split)]:
        raise UsageError(f"split = {split!r}: its share is 0, so nothing belongs to it; give it a share above 0")
