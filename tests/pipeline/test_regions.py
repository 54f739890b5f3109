"""Where the network looks: every hole pixel is covered, far pixels stay out, and cost follows the hole."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inpaintkit.pipeline import regions
from inpaintkit.pipeline.regions import plan, whole, windows

PLAN = {"multiple": 8, "smallest": 64, "largest": 256, "reach": 24.0}


def with_boxes(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    hole = np.zeros((size[1], size[0]), bool)
    for x0, y0, x1, y1 in boxes:
        hole[y0:y1, x0:x1] = True
    return hole


def covered(hole: np.ndarray, boxes) -> np.ndarray:
    left = hole.copy()
    for x0, y0, x1, y1 in boxes:
        left[max(y0, 0) : y1, max(x0, 0) : x1] = False
    return ~left


@st.composite
def holes(draw) -> np.ndarray:
    """Boxes and specks in pictures from 1 px to 400 px a side, holes at borders and corners and nothing but hole among them."""
    w, h = draw(st.one_of(st.just(1), st.integers(1, 400))), draw(st.one_of(st.just(1), st.integers(1, 400)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hole = np.zeros((h, w), bool)
    for _ in range(draw(st.integers(0, 6))):
        x, y = rng.integers(0, w), rng.integers(0, h)
        hole[y : y + rng.integers(1, 1 + draw(st.integers(1, h))), x : x + rng.integers(1, 1 + draw(st.integers(1, w)))] = True
    for edge in draw(st.sets(st.sampled_from(["top", "corner", "all", "speck"]))):
        {"top": hole[:1], "corner": hole[-9:, -9:], "all": hole, "speck": hole[h // 2 : h // 2 + 1, :1]}[edge][...] = True
    hole.flat[0] |= not hole.any()
    return hole


@given(holes(), st.sampled_from([2, 8, 16]), st.sampled_from([16, 64]), st.sampled_from([64, 256]), st.sampled_from([1.0, 24.0]))
def test_every_hole_pixel_belongs_to_exactly_one_region_and_lies_inside_it(hole, multiple, smallest, largest, reach):
    planned = plan(hole, multiple, smallest, largest, reach)
    owners = np.zeros(hole.shape, int)
    for region in planned:
        x0, y0, x1, y1 = region.hole
        assert region.box[0] <= x0 < x1 <= region.box[2]
        assert region.box[1] <= y0 < y1 <= region.box[3]
        owners[y0:y1, x0:x1] += 1
    assert (owners[hole] == 1).all()
    assert owners.max() == 1


@given(holes(), st.sampled_from([2, 8, 16]), st.sampled_from([16, 64]), st.sampled_from([64, 256]))
def test_the_sides_of_a_region_are_whole_steps_of_the_network_at_every_scale(hole, multiple, smallest, largest):
    for region in plan(hole, multiple, smallest, largest, 24.0) + whole(hole, multiple, 24.0):
        for scale in region.scales:
            assert [side % (multiple * scale) for side in region.size] == [0, 0]
        assert region.scales == tuple(sorted({2**k for k in range(len(region.scales))}, reverse=True))


@given(holes(), st.sampled_from([8, 16]), st.sampled_from([64, 128]))
def test_a_region_is_never_much_larger_than_the_picture(hole, multiple, smallest):
    for region in plan(hole, multiple, smallest, 256, 24.0):
        unit = multiple * region.scales[0]
        for side, length in zip(region.size, hole.shape, strict=True):
            assert side < max(length, smallest) + unit


@given(holes(), st.sampled_from([16, 64, 96]))
def test_windows_cover_every_unknown_pixel_and_hold_at_least_one(hole, largest):
    known = torch.from_numpy(~hole).float()[None, None]
    corners, (h, w) = windows(known, largest)
    assert h <= largest
    assert w <= largest
    assert covered(hole, [(j, i, j + w, i + h) for i, j in corners]).all()
    for i, j in corners:
        assert i + h <= hole.shape[0]
        assert j + w <= hole.shape[1]
        assert hole[i : i + h, j : j + w].any()


def test_neighbouring_windows_overlap_by_a_quarter():
    corners, size = windows(torch.zeros(1, 1, 64, 300), 64)
    starts = sorted(j for _, j in corners)
    assert size == (64, 64)
    assert (starts[0], starts[-1]) == (0, 300 - 64)
    assert max(np.diff(starts)) <= 48


def test_known_parts_get_no_window():
    known = torch.ones(1, 1, 300, 300)
    known[..., 10:20, 10:20] = 0
    assert windows(known, 100)[0] == [(0, 0)]


def test_holes_far_apart_are_filled_apart_and_near_ones_together():
    far = plan(with_boxes((600, 400), (20, 20, 40, 40), (500, 300, 520, 330)), **PLAN)
    near = plan(with_boxes((600, 400), (20, 20, 40, 40), (60, 30, 80, 50)), **PLAN)
    assert [region.hole for region in far] == [(20, 20, 40, 40), (500, 300, 520, 330)]
    assert [region.hole for region in near] == [(20, 20, 80, 50)]
    assert all(max(region.size) <= 128 for region in far)


def test_a_speck_inside_the_corner_of_an_l_is_filled_with_it():
    hole = with_boxes((600, 600), (0, 0, 20, 500), (0, 480, 500, 500), (300, 200, 310, 210))
    assert [region.hole for region in plan(hole, **PLAN)] == [(0, 0, 500, 500)]


@pytest.mark.parametrize("side", [10, 30, 100, 150, 200])
def test_a_hole_costs_the_same_in_a_large_picture(side):
    def size_in(w: int, h: int) -> tuple:
        x, y = (w - side) // 2, (h - side) // 2
        (region,) = plan(with_boxes((w, h), (x, y, x + side, y + side)), **PLAN)
        left = x - region.box[0], y - region.box[1]
        return region.size, region.scales, left

    assert size_in(512, 512) == size_in(4000, 3000)


def test_a_hole_of_half_the_window_fits_one_window():
    (region,) = plan(with_boxes((2000, 2000), (900, 900, 1000, 1000)), **PLAN)
    assert region.size == (256, 256)


def test_only_deep_holes_are_filled_coarse_to_fine():
    thin, deep = with_boxes((512, 512), (50, 200, 450, 240)), with_boxes((512, 512), (100, 100, 300, 300))
    assert plan(thin, **PLAN)[0].scales == (1,)
    scales = plan(deep, **PLAN)[0].scales
    assert scales[-1] == 1
    assert 100 / scales[0] <= PLAN["reach"] < 100 / scales[0] * 2


@pytest.mark.parametrize(("side", "coarsest"), [(64, 1), (100, 1), (128, 2), (512, 8)])
def test_the_coarsest_scale_still_shows_the_network_as_much_as_it_was_trained_on(side, coarsest):
    hole = np.ones((side, side), bool)
    (region,) = plan(hole, **PLAN)
    assert region.scales[0] == coarsest
    assert whole(hole, 8, 24.0, 64)[0].scales == region.scales


def test_the_whole_picture_is_one_region_when_asked_for():
    (region,) = whole(with_boxes((101, 57), (3, 4, 9, 9)), 8, 24.0)
    assert region == regions.Region((0, 0, 104, 64), (1,), (3, 4, 9, 9))


def test_reduction_takes_means_of_known_pixels_and_forgets_cells_less_than_half_known():
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    known = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]).float()[None, None]
    small, where = regions.reduced(picture, known, 2)
    assert where[0, 0].tolist() == [[1, 0], [1, 0]]
    assert small[0, 0].tolist() == [[(0 + 1 + 4 + 5) / 4, 2], [(9 + 13) / 2, 0]]
    assert regions.reduced(picture, known, 1) == (picture, known)


def test_enlargement_keeps_constants_and_the_range():
    assert torch.allclose(regions.enlarged(torch.full((1, 3, 4, 5), 0.3), (8, 10)), torch.full((1, 3, 8, 10), 0.3), atol=1e-6)
    checkers = torch.ones(1, 1, 6, 6)
    checkers[..., ::2] = -1
    out = regions.enlarged(checkers, (12, 24))
    assert out.shape == (1, 1, 12, 24)
    assert out.abs().max() <= 1


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 20), st.integers(1, 20))
def test_a_cut_beyond_the_border_holds_what_was_asked_for(x0, y0, w, h):
    values = np.arange(7 * 5 * 2).reshape(7, 5, 2)
    part = regions.cut(values, (x0, y0, x0 + w, y0 + h), -1) if x0 < 5 and y0 < 7 and x0 + w > 0 and y0 + h > 0 else None
    if part is None:
        return
    assert part.shape == (h, w, 2)
    for y in range(h):
        for x in range(w):
            inside = 0 <= x0 + x < 5 and 0 <= y0 + y < 7
            assert (part[y, x] == (values[y0 + y, x0 + x] if inside else -1)).all()


def test_a_clipped_box_lies_inside_the_picture():
    assert regions.clipped((-3, 2, 40, 9), (20, 8)) == (0, 2, 20, 8)
