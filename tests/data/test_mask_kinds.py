"""Kinds of masks: what each looks like, and that size and seed decide about every pixel."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.masks import MASKS, REPAINT, draw, highest, smooth_field

RANDOM = ("thin", "medium", "thick", "box", "half", "outpaint", "sparse", "scratches", "text", "blobs", "wide", "narrow")
DIGESTS = {  # of those that do not depend on how Pillow draws
    "box": "21523062c0970ff1",
    "half": "ec329792601941f4",
    "outpaint": "d005233d7731be9d",
    "sparse": "ccbfc25a4c539e88",
    "lines": "486a4bfbf94e0366",
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_kind_size_and_seed_give_one_mask(kind):
    hole = draw(kind, (96, 64), 7)
    assert (hole.dtype, hole.shape) == (bool, (64, 96))
    assert hole.any()
    assert np.array_equal(hole, draw(kind, (96, 64), 7))


@pytest.mark.parametrize("kind", RANDOM)
def test_another_seed_gives_another_mask(kind):
    assert len({draw(kind, (96, 64), seed).tobytes() for seed in range(20)}) > 3


@pytest.mark.parametrize("kind", DIGESTS)
def test_the_random_stream_of_a_kind_does_not_change(kind):
    """A training that is resumed draws the very masks it would have drawn."""
    digest = hashlib.sha256(np.packbits(MASKS[kind]((96, 64), np.random.default_rng([0, 1, 2]))).tobytes()).hexdigest()
    assert digest[:16] == DIGESTS[kind]


def test_repaints_six_kinds_are_those_of_its_paper():
    assert len(REPAINT) == 6
    assert set(REPAINT) <= set(MASKS)
    rng = np.random.default_rng
    for ours, lama in (("wide", "thick"), ("narrow", "thin")):
        assert np.array_equal(MASKS[ours]((256, 256), rng(3)), MASKS[lama]((256, 256), rng(3)))
    known = {kind: ~MASKS[kind]((256, 256), rng(0)) for kind in REPAINT[2:]}
    assert np.argwhere(known["super-resolve"])[:3].tolist() == [[0, 0], [0, 2], [0, 4]]
    assert known["super-resolve"].mean() == 1 / 4
    assert known["altern-lines"][::2].all()
    assert not known["altern-lines"][1::2].any()
    assert known["right-half"][:, :128].all()
    assert not known["right-half"][:, 128:].any()
    assert known["expand"][96:160, 96:160].all()
    assert known["expand"].mean() == 1 / 16


def test_text_is_made_of_thin_strokes_and_scratches_are_long():
    for seed in range(5):
        letters, lines = draw("text", (256, 192), seed), draw("scratches", (256, 192), seed)
        assert 0.002 < letters.mean() < 0.4
        assert ndimage.distance_transform_edt(letters).max() < 16
        longest = max(max(y.stop - y.start, x.stop - x.start) for y, x in ndimage.find_objects(ndimage.label(lines, np.ones((3, 3)))[0]))
        assert longest > 40


def test_blobs_are_a_few_rounded_patches_exact_to_a_pixel():
    for seed in range(10):
        hole = draw("blobs", (128, 96), seed)
        assert 0.05 <= hole.mean() <= 0.6
        assert ndimage.distance_transform_edt(hole).max() > 4
    field = smooth_field((40, 30), np.random.default_rng(0))
    for count in (0, 1, 417, 1200):
        chosen = highest(field, count)
        assert chosen.sum() == count
        assert count in (0, 1200) or field[chosen].min() > field[~chosen].max()


def test_an_unknown_kind_is_refused_naming_a_near_one():
    with pytest.raises(UsageError, match="did you mean 'scratches'"):
        draw("scratchs", (64, 64), 0)
    with pytest.raises(UsageError, match="there are thin, medium"):
        draw("zzz", (64, 64), 0)


def test_a_size_at_which_a_kind_has_no_hole_is_refused():
    with pytest.raises(BadInput, match="super-resolve: has no hole at 1x1 pixels"):
        draw("super-resolve", (1, 1), 0)
