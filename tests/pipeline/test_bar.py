"""A bar for any model: its fills must come from the network. A network of zeros must not clear it, a trained one must."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from skimage import data

import tiny
from inpaintkit.data.masks import MASKS
from inpaintkit.models import catalog
from inpaintkit.pipeline.fill import Inpainter

cv2 = pytest.importorskip("cv2")

CROPS = {"astronaut": (128, 128), "coffee": (200, 300), "chelsea": (75, 112), "rocket": (107, 160)}
"""Top-left corners of 128 px crops, chosen for what lies in their middle: face, cup, fur, sky."""
HOLE = np.zeros((128, 128), bool)
HOLE[44:84, 44:84] = True


@dataclass(frozen=True)
class Score:
    """Means over the crops. `texture` is the mean of |log(detail of the fill / detail of the truth)|, 0 is best."""

    psnr: float
    texture: float


def score(fill: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Score:
    psnrs, textures = [], []
    for name, (y, x) in CROPS.items():
        truth = np.ascontiguousarray(getattr(data, name)()[y : y + 128, x : x + 128])
        filled = fill(truth, HOLE)
        psnrs.append(10 * np.log10(255**2 / np.mean((filled[HOLE].astype(float) - truth[HOLE]) ** 2)))
        textures.append(abs(np.log(detail(filled) / detail(truth))))
    return Score(float(np.mean(psnrs)), float(np.mean(textures)))


def detail(picture: np.ndarray) -> float:
    """Mean absolute Laplacian of the gray values inside the hole, away from its rim."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(gray, cv2.CV_32F))[52:76, 52:76].mean()) + 0.1


def telea(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return cv2.inpaint(picture, hole.astype(np.uint8) * 255, 3, cv2.INPAINT_TELEA)


def scores(model: str) -> tuple[Score, Score]:
    """The model's and Telea's."""
    pipe = Inpainter.from_pretrained(model, device="cpu", dtype="float32")
    return score(lambda picture, hole: pipe(picture, hole, seed=1).images[0]), score(telea)


def cleared(found: Score, classic: Score) -> bool:
    """Not far below Telea in PSNR (one sample of many may well be below the blur), and much nearer to the truth's detail."""
    return found.psnr > classic.psnr - 5 and found.texture < classic.texture / 2


def test_a_network_of_zeros_fails_both_halves_of_the_bar(tmp_path):
    zeros = tiny.network(size=64, largest=256, patch=4)
    for parameter in zeros.parameters():
        parameter.zero_()
    found, classic = scores(str(tiny.folder(tmp_path, zeros)))
    assert found.psnr < classic.psnr - 5
    assert found.texture > classic.texture
    assert not cleared(found, classic)


def test_a_network_of_random_weights_does_not_clear_the_bar(tmp_path):
    assert not cleared(*scores(str(tiny.folder(tmp_path, tiny.network(size=64, largest=256, patch=4)))))


def test_telea_itself_does_not_clear_the_bar():
    assert not cleared(score(telea), score(telea))


@pytest.mark.xfail(
    strict=True,
    reason="a 40 px box is filled a little too smoothly: 0.55 (other seeds 0.40, 0.44) instead of 0.48 (docs/LOG.md)",
)
def test_the_bundled_model_clears_the_bar():
    found, classic = scores(catalog.FILLING)
    assert cleared(found, classic), f"{found} against {classic} of Telea"


def thin_psnr(fill: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Mean PSNR in the hole for thin strokes, the same for every call."""
    values = []
    for k, (name, (y, x)) in enumerate(CROPS.items()):
        truth = np.ascontiguousarray(getattr(data, name)()[y : y + 128, x : x + 128])
        hole = MASKS["thin"]((256, 256), np.random.default_rng(k))[64:192, 64:192]
        filled = fill(truth, hole)
        values.append(10 * np.log10(255**2 / np.mean((filled[hole].astype(float) - truth[hole]) ** 2)))
    return float(np.mean(values))


def test_thin_strokes_are_filled_nearer_to_the_truth_than_by_telea_and_not_by_a_network_of_zeros(tmp_path):
    pipe = Inpainter.from_pretrained(device="cpu", dtype="float32")
    classic = thin_psnr(telea)
    found = thin_psnr(lambda picture, hole: pipe(picture, hole, seed=1).images[0])
    for parameter in pipe.denoiser.network.parameters():
        parameter.zero_()
    zeros = thin_psnr(lambda picture, hole: pipe(picture, hole, seed=1).images[0])
    assert found > classic > zeros, (found, classic, zeros)


def test_the_bundled_face_model_completes_a_face_nearer_to_the_truth_than_the_photo_model():
    """scikit-image's astronaut, which no training saw, mirrored; counted is the part of the missing half that is face."""
    small = cv2.resize(data.astronaut()[50:180, 160:290], (64, 64), interpolation=cv2.INTER_AREA)
    truth, hole = np.ascontiguousarray(small[:, ::-1]), np.zeros((64, 64), bool)
    hole[:, 32:] = True

    def error(model: str) -> float:
        pipe = Inpainter.from_pretrained(model, device="cpu", dtype="float32")
        fills = [pipe(truth, hole, seed=seed).images[0] for seed in range(4)]
        return float(np.mean([np.abs(fill[16:56, 32:50].astype(float) - truth[16:56, 32:50]).mean() for fill in fills]))

    assert error("face-64") < 0.85 * error("photo-64")
