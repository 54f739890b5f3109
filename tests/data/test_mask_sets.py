"""Mask sets: functions of (seed, split, index), no mask in two splits, coverage in turn, training as it always was."""

from itertools import islice

import numpy as np
import pytest

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.coverage import strata
from inpaintkit.data.mask_sets import content, mask, training_mask, unique
from inpaintkit.data.masks import MASKS
from inpaintkit.data.splits import SPLITS, split_of

CHEAP = {"box": 0.3, "half": 0.2, "outpaint": 0.2, "blobs": 0.2, "lines": 0.05, "sparse": 0.05}
ALL_KINDS = dict.fromkeys(("thin", "medium", "thick", "box", "half", "outpaint", "sparse", "lines", "scratches", "text", "blobs"), 1.0)
SMALL = (24, 24)  # so few pixels that kinds such as outpaint repeat masks often


def some(split: str, count: int, shares: dict[str, float] = CHEAP, size: tuple[int, int] = SMALL, **more) -> list[np.ndarray]:
    return [mask(shares, size, split, 0, index, **more) for index in range(count)]


def test_no_mask_is_in_two_splits():
    keys = {split: {content(hole) for hole in some(split, n)} for split, n in zip(SPLITS, (1800, 300, 200), strict=True)}
    assert len(keys["train"]) < 1800  # masks do come again: only the splits keep them apart
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not keys[one] & keys[other]
    for split in SPLITS:  # whatever the seed, the size of the set, or who draws it
        assert all(split_of(key) == split for key in keys[split])


def test_without_the_rule_splits_would_share_masks():
    """The test above can fail: plain draws of two seeds meet often at this size."""
    one, other = ({content(MASKS["half"](SMALL, np.random.default_rng([seed, i]))) for i in range(50)} for seed in (0, 1))
    assert one & other


def test_every_kind_is_kept_apart_and_in_its_bin():
    bins = strata(0.05, 0.60)
    for split in SPLITS:
        for index in range(66 if split == "train" else 22):
            hole = mask(ALL_KINDS, (40, 32), split, 3, index, zoom=(1, 2))
            low, high = bins[index % 11]
            assert (hole.dtype, hole.shape) == (bool, (32, 40))
            assert low - 1e-9 <= hole.mean() <= high + 1e-9
            assert split_of(content(hole)) == split


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_mask_depends_on_seed_split_and_index_only(kind):
    first = mask({kind: 1.0}, (32, 32), "train", 1, 5)
    next(unique({kind: 1.0}, (32, 32), "test", 0))
    assert np.array_equal(first, mask({kind: 1.0}, (32, 32), "train", 1, 5))
    others = [mask({kind: 1.0}, (32, 32), *key) for key in (("train", 2, 5), ("train", 1, 16), ("validation", 1, 5))]
    assert not any(np.array_equal(first, other) for other in others)


def test_kinds_come_as_often_as_their_shares_say_in_every_split():
    """Drawing again for the split must not favour a kind: it keeps the kind. Boxes are told by their shape."""
    for split in SPLITS:
        holes = [mask({"box": 3.0, "sparse": 1.0}, (32, 32), split, 0, i) for i in range(200)]
        rectangles = sum(np.array_equal(hole, hole.any(1)[:, None] & hole.any(0)) for hole in holes)
        assert abs(rectangles / 200 - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 200)


def test_a_set_without_repeats_is_that_of_the_function_but_for_the_repeats():
    plain, taken = some("validation", 250), list(islice(unique(CHEAP, SMALL, "validation", 0), 250))
    keys = [content(hole) for hole in taken]
    assert len(set(keys)) == 250
    assert len({content(hole) for hole in plain}) < 250
    seen: set[bytes] = set()
    for index, (one, other) in enumerate(zip(plain, taken, strict=True)):
        assert np.array_equal(one, other) or content(one) in seen
        assert 0.05 <= other.mean() <= 0.60
        assert split_of(keys[index]) == "validation"
        seen.add(keys[index])


def test_a_bin_without_a_mask_of_the_split_gives_way_to_the_whole_range():
    """On 24 x 24 px about ten masks of outpaint cover 5 to 10 %: a side two pixels deep, or two sides of one."""
    low, high = strata(0.05, 0.60)[0]
    found = [mask({"outpaint": 1.0}, SMALL, split, 0, 11).mean() for split in SPLITS]
    assert any(not low <= share <= high for share in found)
    assert all(0.05 <= share <= 0.60 for share in found)


def test_other_shares_of_the_splits_and_ranges_of_coverage():
    shares = (0.5, 0.0, 0.5)
    held = some("test", 100, split_shares=shares, coverage=(0.2, 0.25))
    assert all(split_of(content(hole), shares) == "test" and 0.2 <= hole.mean() <= 0.25 for hole in held)
    with pytest.raises(UsageError, match="its share is 0"):
        some("validation", 1, split_shares=shares)


def test_without_a_range_the_kind_decides_about_its_coverage():
    own = [mask({"outpaint": 1.0}, (64, 64), "train", 0, i, coverage=None) for i in range(60)]
    assert max(hole.mean() for hole in own) > 0.65
    assert all(split_of(content(hole)) == "train" for hole in own)


def test_a_kind_with_too_few_masks_is_named():
    size = (32, 32)
    halves = {split_of(content(MASKS["half"](size, np.random.default_rng(i)))) for i in range(40)}
    missing = next(split for split in SPLITS if split not in halves)
    with pytest.raises(BadInput, match=f"half: none of .* masks drawn at 32x32 belongs to the {missing} split; leave it out, or ask for"):
        mask({"half": 1.0}, size, missing, 0, 0, coverage=None)
    assert mask({"half": 1.0}, size, missing, 0, 8).any()  # with a range its cut moves
    with pytest.raises(BadInput, match=r"half: all of its masks found at 32x32 came before \([1-4] in the set\)"):
        list(islice(unique({"half": 1.0}, size, min(halves), 0, coverage=None), 5))


def test_nothing_known_is_no_mask_but_is_given_and_other_single_masks_are_refused():
    assert mask({"all": 1.0}, SMALL, "validation", 0, 0).all()
    with pytest.raises(UsageError, match="all: is one mask only"):
        next(unique({"all": 0.1, "box": 1.0}, SMALL, "train", 0))
    with pytest.raises(UsageError, match="expand: is one mask only, so its coverage cannot be chosen"):
        mask({"box": 1.0, "expand": 0.1}, SMALL, "train", 0, 0)


def test_unknown_kinds_splits_and_shares_are_refused_before_anything_is_drawn():
    with pytest.raises(UsageError, match="boxx: no such kind"):
        mask({"box": 1.0, "boxx": 1e-9}, SMALL, "train", 0, 0)
    with pytest.raises(UsageError, match="no such split"):
        mask({"box": 1.0}, SMALL, "dev", 0, 0)
    for shares in ({}, {"box": 0.0}):
        with pytest.raises(UsageError, match="all shares are 0"):
            mask(shares, SMALL, "train", 0, 0)


def test_training_draws_the_masks_it_always_drew():
    """A transcription of the trainer's rule before masks moved here; the generator must stand where it stood, too."""

    def before(rng, shares, size, zooms):
        kinds, weights = list(shares), np.array(list(shares.values())) / sum(shares.values())
        kind = kinds[int(rng.choice(len(kinds), p=weights))]
        while True:
            canvas = size * int(rng.choice(zooms)) if kind in ("thin", "medium", "thick", "box", "scratches") else size
            left, top = rng.integers(canvas - size + 1, size=2)
            hole = MASKS[kind]((canvas, canvas), rng)[top : top + size, left : left + size]
            if hole.mean() > 0.01:
                return hole

    shares = ALL_KINDS | {"all": 2.0, "wide": 0.5}
    for step in range(300):
        one, other = np.random.default_rng([0, step, 1]), np.random.default_rng([0, step, 1])
        assert np.array_equal(training_mask(one, shares, 48, (1, 2, 4)), before(other, shares, 48, (1, 2, 4)))
        assert one.random() == other.random()


def test_a_training_mask_of_a_split_repeats_with_its_generator():
    for split in SPLITS:
        holes = [training_mask(np.random.default_rng([1, i]), CHEAP, 32, (1, 2), split, (0.05, 0.6)) for i in range(40)]
        assert all(split_of(content(hole)) == split and 0.05 <= hole.mean() <= 0.6 for hole in holes)
        assert np.array_equal(holes[3], training_mask(np.random.default_rng([1, 3]), CHEAP, 32, (1, 2), split, (0.05, 0.6)))
        assert max(hole.mean() for hole in holes) - min(hole.mean() for hole in holes) > 0.3


def test_a_training_mask_that_cannot_be_is_refused():
    with pytest.raises(BadInput, match="altern-lines: covers 1 % or less of 1x1 pixels"):
        training_mask(np.random.default_rng(0), {"altern-lines": 1.0}, 1)
