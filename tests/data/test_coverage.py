"""Coverage: inside the range asked for at the final size, for every kind, and each kind still looks like itself."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.coverage import FIXED, ZOOMED, covering, strata, zoomed
from inpaintkit.data.masks import MASKS

VARIED = [kind for kind in MASKS if kind not in FIXED]
BINS = strata(0.05, 0.60)
EXACT = 1e-9  # float error of low * pixels


def drawn(kind: str, bin_: int = 3, seed: int = 0, size: tuple[int, int] = (64, 64), zoom: tuple[int, ...] = (1,)) -> np.ndarray:
    return covering(kind, size, np.random.default_rng(seed), *BINS[bin_], zoom)


def test_five_to_sixty_percent_are_eleven_bins_of_five():
    assert len(BINS) == 11
    assert np.allclose(np.array(BINS), [(0.05 * i, 0.05 * (i + 1)) for i in range(1, 12)])
    assert strata(0.2, 0.2) == [(0.2, 0.2)]


@pytest.mark.parametrize("zoom", [(1,), (1, 2, 4)])
@pytest.mark.parametrize("kind", VARIED)
def test_every_kind_covers_what_is_asked_for_in_every_bin(kind, zoom):
    for bin_, (low, high) in enumerate(BINS):
        for size in ((64, 64), (100, 40)):
            hole = drawn(kind, bin_, bin_, size, zoom)
            assert (hole.dtype, hole.shape) == (bool, size[::-1])
            assert low - EXACT <= hole.mean() <= high + EXACT


@given(
    st.sampled_from(["blobs", "sparse", "half", "outpaint", "box", "lines"]), st.integers(8, 90), st.integers(8, 90), st.integers(0, 999)
)
def test_solved_kinds_cover_what_is_asked_for_at_any_size(kind, w, h, seed):
    low, high = BINS[seed % 11]
    assume(min(w, h) >= 20 or kind in ("blobs", "sparse", "half"))  # the others are of whole rows, 5 % of 20
    hole = covering(kind, (w, h), np.random.default_rng(seed), low, high)
    assert hole.shape == (h, w)
    assert low - EXACT <= hole.mean() <= high + EXACT


@pytest.mark.parametrize("kind", ["blobs", "sparse", "half", "thin", "text"])
def test_a_single_number_of_pixels_can_be_asked_for(kind):
    assert covering(kind, (50, 40), np.random.default_rng(1), 0.3, 0.3).sum() == 600


@pytest.mark.parametrize("kind", VARIED)
def test_the_same_generator_gives_the_same_mask_and_others_others(kind):
    assert np.array_equal(drawn(kind, seed=5), drawn(kind, seed=5))
    assert len({drawn(kind, seed=seed).tobytes() for seed in range(30)}) > 25


def test_a_half_is_one_straight_cut():
    for seed in range(20):
        hole = drawn("half", seed % 11, seed)
        assert ndimage.label(hole)[1] == ndimage.label(~hole)[1] == 1
        changes = [np.abs(np.diff(hole.astype(int), axis=axis)).sum(axis) for axis in (0, 1)]
        assert min(c.max() for c in changes) <= 1  # along rows, or along columns, it begins or ends once


def test_outpainting_leaves_a_rectangle_and_a_box_is_one():
    for seed in range(20):
        known, hole = ~drawn("outpaint", seed % 11, seed), drawn("box", seed % 11, seed)
        for rectangle in (known, hole):
            assert np.array_equal(rectangle, rectangle.any(1)[:, None] & rectangle.any(0))
        sides = hole.any(0).sum(), hole.any(1).sum()
        assert max(sides) <= 3 * min(sides)
        assert not (known[0].any() and known[-1].any() and known[:, 0].any() and known[:, -1].any())


def test_lines_alternate_within_a_window_up_to_half_of_the_picture():
    for bin_ in range(9):
        hole = drawn("lines", bin_, bin_)
        rows, columns = hole.any(1), hole.any(0)
        missing, along = (rows, columns) if columns.sum() > np.diff(np.flatnonzero(columns)).sum() else (columns, rows)
        assert (np.diff(np.flatnonzero(missing)) == 2).all()
        assert (np.diff(np.flatnonzero(along)) == 1).all()
    dense = drawn("lines", 10)
    assert (dense.mean(0).max() < 0.7) | (dense.mean(1).max() < 0.7)  # two of three


def test_blobs_are_rounded_patches():
    for seed in range(10):
        assert ndimage.distance_transform_edt(drawn("blobs", 5, seed)).max() > 4
        assert ndimage.label(drawn("blobs", 5, seed))[1] < 40


def test_scratches_and_text_stay_thin_where_little_is_covered():
    for kind in ("scratches", "text"):
        for seed in range(5):
            assert ndimage.distance_transform_edt(drawn(kind, 1, seed, (128, 128))).max() < 8


@pytest.mark.parametrize("kind", ZOOMED)
def test_a_zoomed_mask_is_a_crop_of_a_larger_one(kind):
    rng, same = np.random.default_rng(4), np.random.default_rng(4)
    hole = zoomed(kind, (40, 40), rng, (4,))
    same.choice((4,))
    left, top = same.integers(121, size=2)
    assert np.array_equal(hole, MASKS[kind]((160, 160), same)[top : top + 40, left : left + 40])


def test_a_kind_of_one_mask_is_given_where_it_fits_and_refused_elsewhere():
    rng = np.random.default_rng(0)
    assert covering("right-half", (8, 8), rng, 0.5, 0.6).mean() == 0.5
    with pytest.raises(UsageError, match=r"expand: always covers 0.9375 of the picture, not 0.05 to 0.6"):
        covering("expand", (64, 64), rng)


@pytest.mark.parametrize("bad", [(0.5, 0.4), (-0.1, 0.4), (0.4, 1.1), (float("nan"), 0.5)])
def test_a_range_that_is_none_is_refused(bad):
    with pytest.raises(UsageError, match="not a range"):
        covering("box", (8, 8), np.random.default_rng(0), *bad)


def test_an_unknown_kind_and_a_range_without_whole_pixels_are_refused():
    with pytest.raises(UsageError, match="did you mean 'blobs'"):
        covering("blob", (8, 8), np.random.default_rng(0))
    with pytest.raises(BadInput, match=r"sparse: no such mask of 3x3 pixels covers 0\.05 to 0\.1; widen"):
        covering("sparse", (3, 3), np.random.default_rng(0), 0.05, 0.10)
    with pytest.raises(BadInput, match="box: no such mask of 5x5 pixels"):
        covering("box", (5, 5), np.random.default_rng(0), 0.28, 0.28)  # 7 pixels: no rectangle of them fits
