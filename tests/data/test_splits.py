"""Splits: decided by content alone, about as large as asked, and nested as the shares grow."""

import hashlib

import numpy as np
import pytest

from inpaintkit.core.errors import UsageError
from inpaintkit.data.splits import SPLITS, check_split, digest, split_at, split_of

CONTENTS = [i.to_bytes(4, "big") for i in range(20_000)]


@pytest.mark.parametrize("shares", [(0.75, 0.15, 0.10), (0.98, 0.0, 0.02), (0.0, 0.4, 0.6), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_each_split_gets_its_share(shares):
    found = [split_of(content, shares) for content in CONTENTS]
    for split, share in zip(SPLITS, shares, strict=True):
        assert abs(found.count(split) / len(found) - share) <= 4 * np.sqrt(share * (1 - share) / len(found))  # 4 deviations


def test_the_split_is_the_hash_of_the_content_as_earlier_runs_took_it():
    for content in CONTENTS[:300]:
        u = int(hashlib.blake2b(content, digest_size=4).hexdigest(), 16)
        assert digest(content) == u
        assert (split_of(content, (0.98, 0, 0.02)) == "test") == (u < 0.02 * 2**32)
        assert (split_of(content) == "train") == (u >= 0.25 * 2**32)


def test_a_smaller_held_out_share_lies_inside_a_larger_one():
    small, large = ({c for c in CONTENTS if split_of(c, (1 - s, 0, s)) == "test"} for s in (0.02, 0.1))
    assert small < large == {c for c in CONTENTS if split_of(c) == "test"}


@pytest.mark.parametrize("value", [0, 2**32 - 1])
def test_a_split_with_no_share_gets_nothing_even_at_the_ends(value):
    assert split_at(value, (0.0, 1.0, 0.0)) == "validation"
    assert split_at(value, (1.0, 0.0, 0.0)) == "train"
    assert split_at(value, (0.0, 0.0, 1.0)) == "test"


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.15, 0.2), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5), ()])
def test_shares_that_are_no_split_are_refused(shares):
    with pytest.raises(UsageError, match="not a split; give three shares"):
        split_of(b"", shares)


def test_an_unknown_split_and_one_without_a_share_are_refused():
    with pytest.raises(UsageError, match="no such split; choose train, validation, test"):
        check_split("val")
    with pytest.raises(UsageError, match="its share is 0"):
        check_split("validation", (0.9, 0.0, 0.1))
