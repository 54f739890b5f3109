"""The picture as its own reference: blind repair, and `fill` of everything with ilvr; damage found by a network."""

import numpy as np
import pytest
import torch
from scipy import ndimage

import tiny
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.walk import Walk
from inpaintkit.data.images import from_array
from inpaintkit.methods.ddnm import DDNM
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.models.damage import DamageNet, Detector, DetectorConfig
from inpaintkit.pipeline.blind import blind, doubts, find
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options

FEW = ILVR(factor=4, range_t=0, walk=Walk(4))


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> Inpainter:
    return Inpainter.from_pretrained(str(tiny.folder(tmp_path_factory.mktemp("model"))), device="cpu", dtype="float32")


def smooth(h: int = 40, w: int = 52) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(h, w, 3)), (5, 5, 0))
    return (40 + 170 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


SCRATCH = np.zeros((40, 52), bool)
SCRATCH[18:22, 8:44] = True
ALL = np.ones((40, 52), bool)


def coarse(pixels: np.ndarray) -> np.ndarray:
    h, w, c = pixels.shape
    return pixels.reshape(h // 4, 4, w // 4, 4, c).mean((1, 3))


def test_with_a_hole_only_that_is_pasted(pipe):
    before = smooth()
    (after,), record = blind(pipe, from_array(before), SCRATCH, FEW)
    assert np.array_equal(after.pixels[~SCRATCH], before[~SCRATCH])
    assert (after.pixels[SCRATCH] != before[SCRATCH]).any(-1).mean() > 0.9
    assert (record["pasted"], record["changed_outside"], record["told"]) == ("hole", 0, False)


def test_without_a_hole_the_whole_picture_is_the_models_and_resembles_the_damaged_one(pipe):
    before = smooth()
    (after,), record = blind(pipe, from_array(before), None, FEW)
    assert (after.pixels != before).any(-1).mean() > 0.9
    assert np.abs(coarse(after.pixels) - coarse(before)).mean() < 8
    (other,), _ = blind(pipe, from_array(255 - before), None, FEW)
    assert np.abs(coarse(other.pixels) - coarse(before)).mean() > 30
    assert record["pasted"] == "all"


def test_the_damage_itself_is_part_of_the_reference(pipe):
    """That is what makes it blind, and what it suffers from."""
    before, painted = smooth(), smooth()
    painted[SCRATCH] = 255 - painted[SCRATCH]
    options = Options(feather=0)
    (one,), _ = blind(pipe, from_array(before), SCRATCH, FEW, options=options)
    (two,), _ = blind(pipe, from_array(painted), SCRATCH, FEW, options=options)
    assert not np.array_equal(one.pixels[SCRATCH], two.pixels[SCRATCH])


def test_filling_everything_with_ilvr_takes_the_picture_as_the_reference(pipe):
    before = smooth()
    (filled,), record = pipe.fill(from_array(before), ALL, FEW, seed=2)
    (repaired,), _ = blind(pipe, from_array(before), None, FEW, seed=2)
    assert np.array_equal(filled.pixels, repaired.pixels)
    assert record["nfe"] == 4
    assert [w["scales"] for w in record["windows"]] == [[1]]


def test_a_larger_factor_leaves_more_to_the_model(pipe):
    before = smooth(64, 64)
    distance = []
    for factor in (1, 4, 32):
        (after,), _ = blind(pipe, from_array(before), None, ILVR(factor=factor, range_t=0, walk=Walk(4)))
        distance.append(np.abs(after.pixels.astype(int) - before).mean())
    assert distance[0] < 1  # factor 1 overwrites every state with the reference
    assert distance[0] < distance[1] < distance[2]


@pytest.mark.parametrize("factor", [3, 16, 32])
def test_any_factor_fits_any_size(pipe, factor):
    before = smooth(37, 45)
    (after,), record = blind(pipe, from_array(before), None, ILVR(factor=factor, range_t=0, walk=Walk(2)))
    assert after.pixels.shape == before.shape
    x0, y0, x1, y1 = record["windows"][0]["box"]
    assert (x1 - x0) % factor == (y1 - y0) % factor == 0


def test_a_walk_may_start_part_way_from_the_damaged_picture(pipe):
    before = smooth()
    near, far = (
        blind(pipe, from_array(before), None, ILVR(factor=32, range_t=0, walk=Walk(2, start=start)))[0][0].pixels for start in (0.02, 1.0)
    )
    assert np.abs(near.astype(int) - before).mean() < np.abs(far.astype(int) - before).mean()


def test_variants_differ_and_variant_k_is_seed_plus_k(pipe):
    two, _ = blind(pipe, from_array(smooth()), SCRATCH, FEW, seed=4, variants=2)
    (one,), _ = blind(pipe, from_array(smooth()), SCRATCH, FEW, seed=5)
    assert np.array_equal(two[1].pixels, one.pixels)
    assert not np.array_equal(two[0].pixels, one.pixels)


def test_a_condition_that_is_never_used_is_noted(pipe):
    _, record = blind(pipe, from_array(smooth()), None, ILVR(factor=4, range_t=100, walk=Walk(4)))
    assert any("range_t = 100" in text for text in record["notes"])


def test_what_cannot_be_is_refused(pipe):
    with pytest.raises(UsageError, match="DDNM: has to know the hole"):
        blind(pipe, from_array(smooth()), SCRATCH, DDNM())
    with pytest.raises(BadInput, match="the mask has no hole"):
        blind(pipe, from_array(smooth()), np.zeros((40, 52), bool), FEW)
    values = smooth() / 255
    values[SCRATCH] = np.nan
    with pytest.raises(BadInput, match="has NaN in 144 pixels"):
        blind(pipe, from_array(values), SCRATCH, FEW)


def dots(widths: tuple[int, ...] = (4,)) -> Detector:
    """A detector written by hand: it adds what red and green lack of 0, so that likelihoods lie between 0 and 1."""
    network = DamageNet(DetectorConfig(widths=widths, reach=16, threshold=0.5))
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(network.fine[0][1].weight)
    for channel, sign in enumerate((1.0, -1.0)):  # what is above 0 and what is below: none is lost where the rest is cut off
        network.fine[0][0].weight.data[channel, :2, 1, 1] = sign
        network.last.weight.data[0, channel, 1, 1] = -4.0 * sign
    return Detector("dots", network.eval().requires_grad_(False), "")


def test_found_is_what_lies_above_the_threshold_of_any_picture():
    gray = np.tile(np.linspace(0, 1, 50, dtype=np.float32), (40, 1))
    expected = 1 / (1 + np.exp(4 * 2 * (gray.astype(np.float64) * 2 - 1)))  # two channels of [-1, 1]
    for threshold in (None, 0.2, 0.9):
        found = find(dots(), from_array(gray), threshold)
        assert np.array_equal(found, expected > (threshold or 0.5))
        assert 0 < found.mean() < 1


def test_missing_values_are_found():
    values = np.ones((40, 50), np.float32)
    values[3:5, 7] = np.nan
    assert np.argwhere(find(dots(), from_array(values))).tolist() == [[3, 7], [4, 7]]


def test_finding_much_is_doubted():
    assert doubts(np.ones((4, 4), bool)) != ()
    assert doubts(np.arange(16).reshape(4, 4) < 8) == ()
