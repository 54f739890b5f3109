"""Enlarging: the result pooled is the input, every way keeps what it promises, and ways that do not fit are refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import tiny
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.walk import Walk
from inpaintkit.data.images import from_array
from inpaintkit.methods.ddnm import DDNM
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.methods.plain import Plain
from inpaintkit.methods.repaint import RePaint
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.upscale import Upscale, enlarged, inserted, upscale

FEW = DDNM(walk=Walk(3, "trailing"))
WAYS = {
    "operator": FEW,
    "bicubic-mask": Plain(walk=Walk(2, "trailing")),
    "insert-mask": Plain(walk=Walk(2, "trailing")),
    "ilvr": ILVR(factor=2, range_t=0, walk=Walk(3)),
}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> Inpainter:
    return Inpainter.from_pretrained(str(tiny.folder(tmp_path_factory.mktemp("model"))), device="cpu", dtype="float32")


def small(h: int = 14, w: int = 11, channels: int = 3) -> np.ndarray:
    """Low-passed noise, away from black and white."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(h, w, channels)), (1.5, 1.5, 0))
    return (60 + 130 * (noise - noise.min()) / np.ptp(noise)).round().astype(np.uint8)


def pooled(pixels: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """(means of cells, cells without a clipped value), per channel."""
    h, w, c = pixels.shape
    cells = pixels.reshape(h // factor, factor, w // factor, factor, c).astype(float)
    return cells.mean((1, 3)), ~((cells == 0) | (cells == 255)).any((1, 3))


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("size", [(14, 11), (1, 9), (20, 40)])
def test_the_enlarged_picture_pooled_is_the_input(pipe, factor, size):
    before = small(*size)
    (after,), record = upscale(pipe, from_array(before), Upscale(factor=factor), FEW)
    assert after.pixels.shape == (size[0] * factor, size[1] * factor, 3)
    means, whole = pooled(after.pixels, factor)
    assert whole.mean() > 0.2
    assert np.abs(means - before)[whole].max() <= 0.5 + 1e-6  # every pixel is rounded by at most half
    assert record["upscale"] == {"factor": factor, "how": "operator", "down": "avgpool", "decimated": False, "average": 1}
    assert np.ptp(after.pixels.astype(int) - np.kron(before, np.ones((factor, factor, 1), int))) > 5  # it is no mere copy


def test_a_large_picture_is_made_in_joint_windows(pipe):
    (after,), record = upscale(pipe, from_array(small(40, 70)), Upscale(), FEW)
    assert record["nfe"] == 3 * 2 * 3  # 80x144 in windows of 64: two rows of three
    assert [w["scales"] for w in record["windows"]] == [[1]]
    assert after.size == (140, 80)


def test_the_other_operators_are_reproduced_too(pipe):
    before = small()
    (copied,), _ = upscale(pipe, from_array(before), Upscale(decimated=True), FEW)
    assert np.array_equal(copied.pixels[::2, ::2], before)
    (cubic,), record = upscale(pipe, from_array(before), Upscale(down="bicubic"), FEW)
    from PIL import Image

    inner = ~ndimage.binary_dilation(~pooled(cubic.pixels, 2)[1].all(-1), iterations=3)[2:-2, 2:-2]
    again = np.asarray(Image.fromarray(cubic.pixels).resize((11, 14), Image.Resampling.BICUBIC))[2:-2, 2:-2].astype(int)
    error = np.abs(again - before[2:-2, 2:-2])[inner]
    assert error.size == 0 or error.max() <= 2
    assert record["upscale"]["down"] == "bicubic"


@pytest.mark.parametrize("factor", [2, 4])
def test_the_mask_ways_keep_the_pixels_they_take_for_known(pipe, factor):
    before = from_array(small())
    for way, wanted in (("insert-mask", before.pixels), ("bicubic-mask", enlarged(before, factor).pixels[::factor, ::factor])):
        (after,), record = upscale(pipe, before, Upscale(factor=factor, how=way, decimated=True), WAYS[way])
        assert np.array_equal(after.pixels[::factor, ::factor], wanted)
        assert record["told"]
        assert record["hole_fraction"] == 1 - 1 / factor**2


@pytest.mark.parametrize("decimated", [False, True])
def test_the_operator_way_alone_is_the_mean_of_short_walks_from_the_enlargement(pipe, decimated):
    before, steps = small(), []
    (after, other), record = upscale(pipe, from_array(before), Upscale(decimated=decimated), seed=3, variants=2, on_step=steps.append)
    assert record["upscale"]["average"] == 4
    assert (record["seed"], record["variants"], record["nfe"]) == (3, 2, 4 * 4)
    assert [(step.done, step.total) for step in steps] == [(n, 8) for n in range(1, 9)]
    (again,), _ = upscale(pipe, from_array(before), Upscale(decimated=decimated), seed=4)
    assert np.array_equal(again.pixels, other.pixels)
    assert not np.array_equal(after.pixels, other.pixels)
    if decimated:
        assert np.array_equal(after.pixels[::2, ::2], before)
    else:
        means, inside = pooled(after.pixels, 2)
        assert np.abs(means - before)[inside].max() <= 1  # rounded once in every sample, once in their mean


def test_a_mean_is_steadier_than_its_samples(pipe):
    def spread(average: int) -> float:
        results, _ = upscale(pipe, from_array(small()), Upscale(average=average), FEW, variants=3)
        return float(np.std([result.pixels for result in results], axis=0).mean())

    assert spread(9) < 0.6 * spread(1)  # a third, were the samples independent and not rounded


@pytest.mark.parametrize("decimated", [False, True])
def test_a_walk_that_starts_near_its_end_stays_near_the_enlargement(tmp_path, decimated):
    eps = Inpainter.from_pretrained(str(tiny.folder(tmp_path / "eps", tiny.network(prediction="eps"))), device="cpu", dtype="float32")
    u, before = Upscale(decimated=decimated), from_array(small())
    base = enlarged(before, 2, corners=decimated).pixels.astype(int)

    def distance(start: float) -> float:
        (after,), _ = upscale(eps, before, u, DDNM(walk=Walk(2, "trailing", start=start)))
        return float(np.abs(after.pixels - base).mean())

    assert distance(0.004) < 4 < distance(1.0)


def test_ilvr_resembles_the_enlargement_coarsely(pipe):
    before = small(16, 16)
    (after,), record = upscale(pipe, from_array(before), Upscale(how="ilvr"), WAYS["ilvr"])
    means, _ = pooled(after.pixels, 4)
    assert np.abs(means - pooled(enlarged(from_array(before), 2).pixels, 4)[0]).mean() < 12
    assert record["method"]["factor"] == 2


@pytest.mark.parametrize("how", WAYS)
def test_every_way_is_repeated_by_its_seed_and_variant_k_is_seed_plus_k(pipe, how):
    u, picture = Upscale(how=how, decimated=True), from_array(small())
    two, _ = upscale(pipe, picture, u, WAYS[how], seed=4, variants=2)
    (one,), _ = upscale(pipe, picture, u, WAYS[how], seed=5)
    assert np.array_equal(two[1].pixels, one.pixels)
    assert not np.array_equal(two[0].pixels, one.pixels)


@pytest.mark.parametrize("how", WAYS)
def test_depth_gray_and_alpha_are_kept(pipe, how):
    gray = np.dstack([small(channels=1), np.full((14, 11), 77, np.uint8)]).astype(np.uint16) * 257
    picture = replace(from_array(gray), icc=b"profile")
    (after,), _ = upscale(pipe, picture, Upscale(how=how, decimated=True), WAYS[how])
    assert after.pixels.dtype == np.uint16
    assert after.pixels.shape == (28, 22, 1)
    assert (after.alpha == 77 * 257).all()
    assert after.icc == b"profile"


def test_enlarging_keeps_the_middle_of_cells_or_their_corners():
    ramp = np.repeat(np.arange(10, 26, dtype=np.float64)[None, :, None] / 40, 6, 0)
    middles, corners = enlarged(from_array(ramp), 2).pixels[6, 8:-8, 0], enlarged(from_array(ramp), 2, corners=True).pixels[6, 8:-8, 0]
    place = np.arange(8, 24)
    assert np.allclose(middles, (10 + (place + 0.5) / 2 - 0.5) / 40)
    assert np.allclose(corners, (10 + place / 2) / 40)
    assert np.array_equal(enlarged(from_array(small()), 4, corners=True).pixels[::4, ::4], small())
    assert np.array_equal(inserted(from_array(small()), 4).pixels[::4, ::4], small())


@pytest.mark.parametrize(
    ("way", "method", "says"),
    [
        ({"how": "insert-mask"}, None, "true of decimated pictures only"),
        ({"how": "bicubic-mask"}, None, "use --how operator, or pass --decimated"),
        ({"how": "operator"}, Plain(), "Plain: asks the network alone"),
        ({"how": "operator"}, ILVR(), "pass --how ilvr"),
        ({"how": "operator"}, RePaint(walk=Walk(3)), "repaint needs known pixels; AvgPool"),
        ({"how": "ilvr"}, FEW, "DDNM: cannot follow a reference"),
        ({"factor": 3}, None, "factor = 3"),
        ({"how": "magic"}, None, "how = 'magic'"),
    ],
)
def test_ways_that_do_not_fit_are_refused(pipe, way, method, says):
    with pytest.raises(UsageError) as error:
        upscale(pipe, from_array(small()), Upscale(**way), method)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_values_are_refused(pipe):
    values = small() / 255
    values[0, 0] = np.nan
    with pytest.raises(BadInput, match="has NaN in 1 pixels"):
        upscale(pipe, from_array(values), Upscale(), FEW)
