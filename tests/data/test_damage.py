"""Synthetic damage: its mask is where the picture changed, it is reproducible, and no two kinds are alike."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from inpaintkit.data.damage import KINDS, SEEN, UNSEEN, VISIBLE, compressed, damage, visible, worn
from inpaintkit.data.damage_kinds import altered
from inpaintkit.data.masks import boxes

SIZE = (48, 64)  # H, W


@cache
def photo(seed: int = 0) -> np.ndarray:
    """Something with structure at every scale."""
    rng = np.random.default_rng(seed)
    values = sum(ndimage.gaussian_filter(rng.standard_normal((3, *SIZE)), (0, s, s)) * s for s in (1, 3, 9))
    return (values / np.abs(values).max()).astype(np.float32)


def hole() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[10:30, 20:50] = True
    return mask


@cache
def damaged(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return damage(photo(), hole(), photo(1), kind, np.random.default_rng(seed))


def test_every_kind_is_either_seen_or_unseen():
    assert set(SEEN) | set(UNSEEN) == set(KINDS)
    assert not set(SEEN) & set(UNSEEN)
    assert len(SEEN) >= 6
    assert len(UNSEEN) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_damaged_is_where_the_picture_changed(kind):
    for seed in range(10):
        picture, where = damaged(kind, seed)
        assert (picture.dtype, picture.shape, where.dtype, where.shape) == (np.float32, (3, *SIZE), bool, SIZE)
        assert np.abs(picture).max() <= 1
        change = np.abs(picture - photo()).max(0)
        assert (ndimage.maximum_filter(change, 5)[where] > VISIBLE).all()
        # beside it lies at most the outer half of an edge, whose spread is up to 3 px
        assert change[~ndimage.binary_dilation(where, iterations=7)].max(initial=0) <= VISIBLE


def test_an_edge_ends_at_half_of_the_coverage_beside_it_however_faint():
    """The half-maximum of a blurred step is where the step was."""
    picture, step = np.zeros((3, *SIZE), np.float32), np.zeros(SIZE, np.float32)
    step[:, 30:] = 1
    for spread in (0, 0.7, 1.5):
        for strength in (1, 0.4):
            alpha = ndimage.gaussian_filter(step, spread) * strength
            assert np.array_equal(visible(picture, picture + alpha, alpha), step > 0)


def test_a_line_thinner_than_a_pixel_is_found_whole_and_not_broadened():
    picture, alpha = np.zeros((3, *SIZE), np.float32), np.zeros(SIZE, np.float32)
    alpha[:, 20], alpha[:, 40], alpha[:, 41] = 0.3, 0.7, 0.2
    assert set(np.flatnonzero(visible(picture, picture + alpha, alpha).all(0))) == {20, 40}


def test_specks_of_a_crease_are_one_crease():
    rng = np.random.default_rng(0)
    alpha = np.zeros(SIZE, np.float32)
    alpha[:, 20:24] = rng.random((SIZE[0], 4)) > 0.25
    picture = np.zeros((3, *SIZE), np.float32)
    found = visible(picture, picture + alpha, alpha)
    assert found[:, 20:24].mean() > 0.95
    assert not found[:, :20].any()
    assert not found[:, 24:].any()


def test_a_change_that_wear_hides_is_no_damage():
    picture, alpha = np.zeros((3, *SIZE), np.float32), hole().astype(np.float32)
    assert not visible(picture, picture + 0.9 * VISIBLE * alpha, alpha).any()
    assert np.array_equal(visible(picture, picture + 1.1 * VISIBLE * alpha, alpha), hole())


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_in_most_draws_and_leaves_something_whole(kind):
    shares = np.array([damaged(kind, seed)[1].mean() for seed in range(10)])
    assert (shares > 0).sum() >= 8
    assert (shares < 0.9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_decides_everything(kind):
    first, again, other = damaged(kind, 3), damaged.__wrapped__(kind, 3), damaged(kind, 4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert kind in ("pasted", "mosaic") or not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("kind", ["solid", "noise", "copy", "blur", "smear", "recolor", "mosaic", "pasted", "gradient", "hatching"])
def test_kinds_that_are_told_where_stay_there(kind):
    near = ndimage.binary_dilation(hole(), iterations=5)  # soft edges reach three standard deviations of up to 1.5 px
    for seed in range(8):
        assert not (damaged(kind, seed)[1] & ~near).any()


@pytest.mark.parametrize("kind", ["copy", "blur", "smear", "recolor", "mosaic", "pasted"])
def test_of_two_pictures_in_one_frame_the_smaller_is_the_damage(kind):
    large = np.ones(SIZE, bool)
    large[20:30, 20:40] = False
    _, where = damage(photo(), large, photo(1), kind, np.random.default_rng(0))
    assert 0 < where.mean() < 0.5


def test_invisible_paint_is_no_damage():
    white = np.ones((3, *SIZE), np.float32)
    found = [damage(white, hole(), white, "solid", np.random.default_rng(seed)) for seed in range(40)]
    assert any(not where.any() and np.array_equal(picture, white) for picture, where in found)
    assert any(where.any() for _, where in found)


def test_holes_are_not_all_filled_with_one_constant():
    """A detector shown black holes only would learn to find black."""
    inside = [damaged("solid", seed)[0][:, 20, 35] for seed in range(40)]
    assert len({tuple(color.round(2)) for color in inside}) > 10
    assert any((color == -1).all() for color in inside)


def test_wear_changes_the_whole_picture_a_little_and_only_sometimes():
    changes = [np.abs(worn(photo(), np.random.default_rng(seed)) - photo()).mean() for seed in range(40)]
    assert 0 in changes
    assert 0 < np.median([change for change in changes if change]) < 0.1
    coarse, fine = (np.abs(compressed(photo(), quality) - photo()).mean() for quality in (20, 95))
    assert coarse > 2 * fine > 0
    assert fine < 0.06  # colours are kept at half the resolution


def test_an_altered_picture_has_other_content_at_every_place():
    for seed in range(5):
        same = np.abs(altered(photo(), np.random.default_rng(seed)) - photo()).max(0) < 1e-3
        assert same.mean() < 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
def test_small_pictures_are_damaged_too(kind, size):
    rng = np.random.default_rng(0)
    picture = rng.uniform(-1, 1, (3, *size)).astype(np.float32)
    changed, where = damage(picture, boxes(size[::-1], rng, (1, 1), (80, 120)), picture[:, ::-1], kind, rng)
    assert (changed.shape, where.shape) == (picture.shape, size)
