"""Procedural masks: the right shape and kind for every size, repeatable, and neither empty nor (but for one) everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data import masks
from inpaintkit.data.masks import MASKS

COVERAGE = {  # mean share of hole of 200 draws at 256 px; that mean errs by at most 0.35 / sqrt(200) = 0.025
    "thin": (0.05, 0.40),
    "medium": (0.05, 0.35),
    "thick": (0.10, 0.55),
    "box": (0.08, 0.24),  # the square of a mean side of 0.4: 0.16
    "half": (0.49, 0.51),
    "outpaint": (0.25, 0.65),
    "sparse": (0.55, 0.70),  # (0.3 + 0.95) / 2
    "lines": (0.49, 0.51),
    "scratches": (0.01, 0.15),
    "all": (1.0, 1.0),
    "text": (0.01, 0.20),
    "blobs": (0.30, 0.35),  # (0.05 + 0.6) / 2
    "right-half": (0.5, 0.5),
    "expand": (0.9375, 0.9375),  # all but a quarter of each side
    "altern-lines": (0.5, 0.5),
    "super-resolve": (0.75, 0.75),
}
COVERAGE |= {"wide": COVERAGE["thick"], "narrow": COVERAGE["thin"]}
FIXED = ("all", "right-half", "expand", "altern-lines", "super-resolve")  # the same for every seed


def draw(kind: str, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A first draw, empty or not."""
    return MASKS[kind](size, np.random.default_rng(seed))


@given(st.sampled_from(list(MASKS)), st.integers(2, 90), st.integers(2, 90), st.integers(0, 1000))
def test_every_kind_gives_a_hole_of_the_size_asked_for_and_the_same_again(kind, w, h, seed):
    hole = draw(kind, (w, h), seed)
    assert hole.dtype == bool
    assert hole.shape == (h, w)
    assert hole.flags.writeable
    assert np.array_equal(hole, draw(kind, (w, h), seed))


@pytest.mark.parametrize("kind", list(MASKS))
def test_the_coverage_of_every_kind_is_what_it_is_meant_to_be(kind):
    shares = [draw(kind, (256, 256), seed).mean() for seed in range(200)]
    low, high = COVERAGE[kind]
    assert low <= np.mean(shares) <= high


@pytest.mark.parametrize("kind", list(MASKS))
def test_other_generators_give_other_masks_where_there_is_a_choice(kind):
    different = len({draw(kind, (64, 64), seed).tobytes() for seed in range(40)})
    assert different == 1 if kind in FIXED else different == 4 if kind in ("half", "lines") else different > 20


@pytest.mark.parametrize("kind", list(MASKS))
def test_a_mask_uses_no_random_state_but_the_generator_it_is_given(kind):
    np.random.seed(0)
    first = draw(kind, (40, 40), 5)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    assert np.array_equal(first, draw(kind, (40, 40), 5))
    assert np.array_equal(state, np.random.get_state()[1])


def test_lines_are_every_second_row_or_column():
    for seed in range(8):
        hole = draw("lines", (10, 8), seed)
        rows, columns = hole.all(1), hole.all(0)
        assert (rows ^ np.roll(rows, 1)).all() if rows.any() else (columns ^ np.roll(columns, 1)).all()
        assert hole.mean() == 0.5


def test_half_and_outpaint_leave_a_rectangle_known():
    for kind in ("half", "outpaint"):
        for seed in range(20):
            known = ~draw(kind, (40, 30), seed)
            rows, columns = known.any(1), known.any(0)
            assert np.array_equal(known, rows[:, None] & columns)
            assert known.any()
            assert not (known[0].any() and known[-1].any() and known[:, 0].any() and known[:, -1].any())


def test_a_box_is_one_rectangle():
    for seed in range(20):
        hole = draw("box", (64, 48), seed)
        assert np.array_equal(hole, hole.any(1)[:, None] & hole.any(0))


def test_the_strokes_of_thick_masks_are_wider_than_those_of_thin_ones():
    from scipy import ndimage

    def width(kind):
        return np.mean([ndimage.distance_transform_edt(draw(kind, (256, 256), seed)).max() for seed in range(40)])

    assert width("thin") < width("medium") < width("thick")


def test_a_mask_by_name_is_never_empty_and_repeats_with_its_seed():
    for seed in range(30):
        hole = masks.draw("scratches", (3, 3), seed)
        assert hole.any()
        assert np.array_equal(hole, masks.draw("scratches", (3, 3), seed))


def test_an_unknown_kind_and_a_size_without_a_hole_are_refused():
    with pytest.raises(UsageError, match="boxx: no such kind of mask; did you mean 'box'"):
        masks.draw("boxx", (8, 8), 0)
    with pytest.raises(BadInput, match="altern-lines: has no hole at 5x1 pixels"):
        masks.draw("altern-lines", (5, 1), 0)
