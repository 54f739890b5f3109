"""The biharmonic filler solves its equation."""

import numpy as np
import pytest
from skimage import data
from skimage.restoration import inpaint_biharmonic

from inpaintkit.core.errors import BadInput
from inpaintkit.pipeline.fillers import biharmonic

PHOTO = data.chelsea()[100:148, 100:156].astype(np.float32) / 255


def test_biharmonic_equals_scikit_images_away_from_the_edges():
    hole = np.zeros(PHOTO.shape[:2], bool)
    hole[10:22, 15:30] = hole[30:36, 5:9] = True
    filled = biharmonic(PHOTO, hole)
    other = inpaint_biharmonic(np.where(hole[:, :, None], 0, PHOTO), hole, channel_axis=-1).clip(0, 1)
    assert np.abs(filled - other).max() < 1e-4  # it solves in float32
    assert np.abs(filled - PHOTO)[hole].mean() > 1e-3
    assert (filled == PHOTO)[~hole].all()


def test_biharmonic_repeats_itself_at_the_edges_too():
    hole = np.random.default_rng(0).random(PHOTO.shape[:2]) < 0.4
    hole[:3] = True
    first = biharmonic(PHOTO, hole)
    assert all((biharmonic(PHOTO, hole) == first).all() for _ in range(3))
    assert np.isfinite(first).all()
    flat = np.full_like(PHOTO, 0.25)
    assert biharmonic(flat, hole) == pytest.approx(flat, abs=1e-5)


def test_biharmonic_refuses_a_picture_without_known_pixels():
    with pytest.raises(BadInput, match="nothing is known"):
        biharmonic(PHOTO, np.ones(PHOTO.shape[:2], bool))
