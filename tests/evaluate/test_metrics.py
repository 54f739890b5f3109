"""The metrics against formulas written down elsewhere (torchmetrics 1.9.0, scikit-image 0.26.0) and by hand, and where they look."""

import math
import sys

import numpy as np
import pytest
import torch
from skimage import metrics as skimage_metrics
from torch import Tensor
from torchmetrics.functional import image as torchmetrics_image
from torchmetrics.functional import mean_absolute_error

from inpaintkit.core.errors import UsageError
from inpaintkit.evaluate import metrics
from inpaintkit.evaluate.metrics import METRICS, REGIONS, diversity, interval, measured, seam, within


def pair(h: int = 40, w: int = 48, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """(result, truth): smooth pictures with some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:h, :w]
    truth = np.stack([np.sin(x / 5 + i) * np.cos(y / 7) for i in range(3)])
    result = (truth + noise * rng.standard_normal(truth.shape)).clip(-1, 1)
    return torch.from_numpy(result).float(), torch.from_numpy(truth).float()


def hole(h: int = 40, w: int = 48) -> np.ndarray:
    found = np.zeros((h, w), bool)
    found[12:28, 14:34] = True
    return found


WHOLE = np.ones((40, 48), bool)


def test_the_whole_picture_agrees_with_torchmetrics():
    """Both in float64, but for its logarithm."""
    result, truth = (x.double() for x in pair())
    settings = {"data_range": 2.0, "sigma": 1.5, "return_full_image": True}
    similar = torchmetrics_image.structural_similarity_index_measure(result[None], truth[None], **settings)[1]
    expected = {
        "psnr": torchmetrics_image.peak_signal_noise_ratio(result, truth, data_range=2.0),
        "mae": mean_absolute_error(result, truth) * 127.5,
        "ssim": similar[..., 5:-5, 5:-5].mean(),  # its own mean holds windows that reach over the edge
    }
    for name, value in expected.items():
        assert METRICS[name].of(result, truth, WHOLE) == pytest.approx(float(value), rel=1e-6), name


def test_the_whole_picture_agrees_with_scikit_image():
    result, truth = (x.permute(1, 2, 0).double().numpy() for x in pair())
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0, "channel_axis": 2}
    assert METRICS["psnr"].of(*pair(), WHOLE) == pytest.approx(skimage_metrics.peak_signal_noise_ratio(truth, result, data_range=2.0))
    assert METRICS["ssim"].of(*pair(), WHOLE) == pytest.approx(skimage_metrics.structural_similarity(truth, result, **settings))


def test_ms_ssim_needs_176_pixels_and_the_whole_picture():
    result, truth = pair(176, 180)
    value = METRICS["ms_ssim"].of(result, truth, np.ones((176, 180), bool))
    assert value == pytest.approx(_ms_ssim(result, truth), abs=1e-5)  # float32
    assert math.isnan(METRICS["ms_ssim"].of(*pair(175, 180), np.ones((175, 180), bool)))
    assert math.isnan(METRICS["ms_ssim"].of(result, truth, hole(176, 180)))


def test_ms_ssim_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(UsageError, match=r"pip install 'inpaintkit\[evaluate\]'"):
        METRICS["ms_ssim"].of(*pair(176, 180), np.ones((176, 180), bool))
    assert math.isnan(METRICS["ms_ssim"].of(*pair(), WHOLE))


def _ms_ssim(a: Tensor, b: Tensor) -> float:
    """Wang et al. 2003, eq. 7, written down again in float64: what is measured by torchmetrics is checked by this."""
    ramp = np.arange(-5, 6)
    line = np.exp(-(ramp**2) / (2 * 1.5**2))
    window = torch.from_numpy(np.outer(line, line) / line.sum() ** 2)[None, None].repeat(3, 1, 1, 1)
    mean = lambda x: torch.nn.functional.conv2d(x, window, groups=3)  # noqa: E731
    weights, total = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), 1.0
    x, y = a.double()[None], b.double()[None]
    for scale, weight in enumerate(weights):
        if scale == 4:
            x, y = (torch.nn.functional.pad(z, (5, 5, 5, 5), mode="reflect") for z in (x, y))
        mx, my = mean(x), mean(y)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        contrast = (2 * cov + 0.06**2) / (vx + vy + 0.06**2)
        bright = (2 * mx * my + 0.02**2) / (mx**2 + my**2 + 0.02**2)
        total *= float((contrast * bright if scale == 4 else contrast).mean()) ** weight
        x, y = (torch.nn.functional.avg_pool2d(z, 2) for z in (x, y))
    return total


@pytest.mark.parametrize("name", ["psnr", "mae", "ssim"])
def test_a_region_sees_nothing_of_the_rest(name):
    result, truth = pair()
    far = result.clone()
    far[:, :, :4] = 1.0  # more than a window away from the hole
    value = METRICS[name].of(result, truth, hole())
    assert METRICS[name].of(far, truth, hole()) == value
    inside = result.clone()
    inside[:, 18:22, 20:24] = 1.0
    worse = METRICS[name].of(inside, truth, hole())
    assert worse < value if METRICS[name].higher else worse > value


def test_the_error_in_the_hole_by_hand():
    result, truth = torch.zeros(3, 40, 48), torch.zeros(3, 40, 48)
    result[:, torch.from_numpy(hole())] = 0.2
    assert METRICS["psnr"].of(result, truth, hole()) == pytest.approx(20.0, abs=1e-5)  # 10 log10(2^2 / 0.2^2)
    assert METRICS["mae"].of(result, truth, hole()) == pytest.approx(25.5, abs=1e-4)
    assert METRICS["psnr"].of(result, truth, ~hole()) == math.inf


def test_the_border_lies_on_both_sides_of_the_outline():
    border = within(hole(), "border")
    assert border[20, 10:18].all()  # 4 px known, 4 px filled
    assert not border[20, 9]
    assert not border[20, 18]
    for everything in (np.ones((8, 8), bool), np.zeros((8, 8), bool)):
        assert not within(everything, "border").any()
        assert math.isnan(METRICS["psnr"].of(torch.zeros(3, 8, 8), torch.ones(3, 8, 8), within(everything, "border")))


def test_ssim_is_undefined_where_no_window_fits():
    corner = np.zeros((40, 48), bool)
    corner[:3, :3] = True
    assert math.isnan(METRICS["ssim"].of(*pair(), corner))
    assert math.isnan(METRICS["ssim"].of(*pair(10, 48), np.ones((10, 48), bool)))


def test_networks_are_run_once_for_all_regions():
    calls = []

    def network(a: Tensor, b: Tensor) -> list[Tensor]:
        calls.append(a.shape)
        return [(a - b).square()]

    result, truth = pair()
    values = measured(result, truth, hole(), ["psnr"], {"squares": network})
    assert calls == [(1, 3, 40, 48)]
    assert list(values) == list(REGIONS)
    squares = (result - truth).square().sum(0)
    assert values["hole"]["squares"] == pytest.approx(float(squares[torch.from_numpy(hole())].mean()), rel=1e-5)
    assert values["whole"]["squares"] == pytest.approx(float(squares.mean()), rel=1e-5)
    tiny = measured(*pair(16, 16), np.ones((16, 16), bool), [], {"squares": network})
    assert math.isnan(tiny["whole"]["squares"])


def test_changed_is_the_largest_difference_outside_the_hole():
    source = np.full((8, 8, 3), 100, np.uint8)
    result, inside = source.copy(), np.zeros((8, 8), bool)
    inside[2:4] = True
    result[2:4] = 0
    assert metrics.changed(result, source, inside) == 0
    result[7, 7, 2] = 97
    assert metrics.changed(result, source, inside) == 3
    assert metrics.changed(result, source, np.ones((8, 8), bool)) == 0


def test_the_seam_is_one_for_the_truth_and_grows_with_a_step():
    truth = pair()[1]
    assert seam(truth, truth, hole()) == 1
    stepped = truth.clone()
    stepped[:, torch.from_numpy(hole())] += 0.5
    assert seam(stepped, truth, hole()) > 2
    assert seam(stepped, truth, hole(), depth=3) == pytest.approx(1, abs=1e-4)
    assert math.isnan(seam(stepped, truth, np.ones_like(hole())))
    assert math.isnan(seam(stepped, truth, hole(), depth=30))


def test_diversity_is_the_mean_over_pairs():
    samples = [torch.full((3, 40, 48), value) for value in (0.0, 0.2, 0.4)]
    assert diversity(samples, hole()) == pytest.approx((25.5 + 51 + 25.5) / 3, rel=1e-5)
    assert diversity(samples, hole(), METRICS["mae"].of) == pytest.approx(34, rel=1e-5)
    assert math.isnan(diversity(samples[:1], hole()))


def test_intervals_hold_the_mean_as_often_as_they_say():
    """300 samples of 30 and of 6: 95 % of the intervals; of six, plain percentiles would hold 86 %. 4 standard errors are 5 %."""
    rng = np.random.default_rng(0)
    for n in (30, 6):
        held = [low <= 0 <= high for low, high in (interval(rng.standard_normal(n), draws=300) for _ in range(300))]
        assert 0.9 <= np.mean(held) <= 0.985
    values = list(rng.standard_normal(30))
    assert interval(values) == interval([*values, math.nan, math.inf])
    assert all(map(math.isnan, interval([1.0, 2.0, 3.0, 4.0, 5.0])))
    wide = interval(values, level=0.99)
    assert wide[0] < interval(values)[0] < interval(values)[1] < wide[1]
