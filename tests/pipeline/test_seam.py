"""The seam: what a fill gets wrong on the rim is carried into the hole, and nothing else changes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inpaintkit.pipeline.seam import close


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def box(size: int, low: int, high: int) -> Tensor:
    known = torch.ones(1, 1, size, size)
    known[..., low:high, low:high] = 0
    return known


def test_a_fill_that_already_fits_stays_as_it_is():
    known, picture = box(24, 6, 18), normal(1, 3, 24, 24)
    fill = torch.where(known > 0, picture, normal(1, 3, 24, 24, seed=1))
    assert torch.equal(close(fill, picture, known, 8), fill)


def test_a_constant_error_is_taken_out_of_a_thin_hole_completely():
    known = torch.ones(1, 1, 20, 30)
    known[..., 8:11, :] = 0  # three rows, right through: nowhere further than 2 px from the rim
    picture = normal(1, 3, 20, 30)
    closed = close(picture - 0.25, picture, known, 8)
    hole = known.expand_as(picture) == 0
    assert (closed - picture)[hole].abs().max() < 1e-6  # solved in float64, added in float32


def test_a_constant_error_dies_out_towards_the_middle_of_a_deep_hole():
    known, picture, feather = box(64, 8, 56), torch.zeros(1, 1, 64, 64), 8
    change = close(torch.full_like(picture, -1.0), picture, known, feather)[0, 0] + 1
    row = change[32, 8:56]
    assert (row[feather:-feather] == 0).all()  # the rim's first pixel is 1 px from a known one
    assert (row[:feather].diff() < 0).all()
    # a straight line between 1 at distance 0 and 0 at distance feather + 1, far from the corners: x = 1 - d / (feather + 1)
    line = 1 - torch.arange(1, feather + 1) / (feather + 1)
    assert (row[:feather] - line).abs().max() < 0.01


@pytest.mark.parametrize("held", [7.0, float("nan")])
def test_what_the_picture_holds_in_the_hole_does_not_matter(held):
    known, picture, fill = box(24, 6, 18), normal(1, 3, 24, 24), normal(2, 3, 24, 24, seed=1)
    assert torch.equal(close(fill, torch.where(known > 0, picture, held), known, 4), close(fill, picture, known, 4))


def test_known_pixels_of_the_fill_are_left_alone():
    known, picture, fill = box(24, 6, 18), normal(1, 3, 24, 24), normal(2, 3, 24, 24, seed=1)
    kept = known.expand_as(fill) > 0
    assert torch.equal(close(fill, picture, known, 4)[kept], fill[kept])


@pytest.mark.parametrize(("known", "feather"), [(box(16, 4, 12), 0), (torch.ones(1, 1, 16, 16), 8), (torch.zeros(1, 1, 16, 16), 8)])
def test_without_feather_or_without_a_rim_nothing_changes(known, feather):
    fill = normal(1, 3, 16, 16)
    assert torch.equal(close(fill, torch.zeros_like(fill), known, feather), fill)


def dense(difference: np.ndarray, hole: np.ndarray, feather: int) -> np.ndarray:
    """Laplace's equation of one channel, pixel by pixel: neighbours outside the picture do not exist."""
    h, w = hole.shape
    known = np.argwhere(~hole)
    band = [(int(y), int(x)) for y, x in np.argwhere(hole) if np.sqrt(((known - [y, x]) ** 2).sum(1)).min() <= feather]
    matrix, right = np.zeros((len(band), len(band))), np.zeros(len(band))
    for n, (y, x) in enumerate(band):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < h and 0 <= u < w:
                matrix[n, n] += 1
                if not hole[v, u]:
                    right[n] += difference[v, u]
                elif (v, u) in band:
                    matrix[n, band.index((v, u))] -= 1
    out = np.zeros(hole.shape)
    if band:
        out[tuple(np.array(band).T)] = np.linalg.solve(matrix, right)
    return out


@given(st.integers(0, 10_000), st.floats(0.1, 0.9), st.integers(1, 5))
def test_it_solves_the_equation_it_says(seed, share, feather):
    hole = np.random.default_rng(seed).random((7, 9)) < share
    hole[0, 0], hole[-1, -1] = False, True
    picture, fill = normal(1, 2, 7, 9, seed=seed).double(), normal(1, 2, 7, 9, seed=seed + 1).double()
    change = close(fill, picture, torch.from_numpy(~hole)[None, None].double(), feather) - fill
    for channel in range(2):
        wanted = dense((picture - fill)[0, channel].numpy(), hole, feather)
        assert np.abs(change[0, channel].numpy() - wanted).max() < 1e-10  # float64, condition number below 1e3


def test_every_picture_of_a_batch_is_closed_as_if_alone():
    known, picture, fill = box(24, 6, 18), normal(1, 3, 24, 24), normal(3, 3, 24, 24, seed=1)
    together = close(fill, picture, known, 4)
    for i in range(3):
        assert (close(fill[i : i + 1], picture, known, 4) - together[i]).abs().max() < 1e-6
