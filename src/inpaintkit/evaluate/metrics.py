"""Metrics of filled pictures against the truth.

Pictures are `(3, H, W)` float32 tensors in [-1, 1], holes `(H, W)` bool arrays, True = hole. A region is where a metric looks:
the whole picture, the hole, or the border: known and filled pixels within `BORDER` px of the hole's outline. What a
metric cannot say of a picture is NaN.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from scipy.special import ndtr, stdtrit
from skimage.metrics import structural_similarity
from torch import Tensor

from inpaintkit.core.errors import UsageError
from inpaintkit.evaluate.features import SMALLEST, distance

Region = Literal["whole", "hole", "border"]
Maps = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""Two batches of pictures -> maps of their difference, as `features.LPIPS`."""
REGIONS: tuple[Region, ...] = ("whole", "hole", "border")
BORDER = 4
"""Pixels on either side of the hole's outline that make the border region."""
WINDOW = 11
"""Pixels of each side of SSIM's window."""
FEWEST = 6
"""Values from which an interval is given: of fewer, resampling says too little."""
SMALLEST_MS = 176
"""Shorter side from which MS-SSIM is given: the smallest of its five scales holds an 11 px window (Wang et al. 2003)."""


@dataclass(frozen=True)
class Metric:
    """A number for one picture."""

    of: Callable[[Tensor, Tensor, np.ndarray], float]
    """(result, truth, where the metric looks `(H, W)` bool) -> value."""
    higher: bool
    """Whether more is better."""
    unit: str = ""


def within(hole: np.ndarray, region: Region) -> np.ndarray:
    """The region as a bool array."""
    if region == "whole":
        return np.ones_like(hole)
    if region == "hole":
        return hole
    if hole.all() or not hole.any():  # no outline, so no distance to it
        return np.zeros_like(hole)
    return (ndimage.distance_transform_edt(hole) <= BORDER) & hole | (ndimage.distance_transform_edt(~hole) <= BORDER) & ~hole


def psnr(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
    """Peak signal-to-noise ratio over the region, dB; infinite for equal pictures."""
    error = float((result - truth)[:, torch.from_numpy(where)].double().square().mean())
    return float(10 * np.log10(4 / error)) if error else math.inf


def mae(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
    """Mean absolute error over the region, of 255."""
    return float((result - truth)[:, torch.from_numpy(where)].double().abs().mean()) * 127.5


def ssim(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
    """Structural similarity, Gaussian windows of 1.5 px cut at 11 px (Wang et al. 2004), averaged over the windows that lie inside
    the picture and have their middle in the region; NaN without any."""
    if min(where.shape) < WINDOW:
        return math.nan
    pair = [x.permute(1, 2, 0).double().numpy() for x in (result, truth)]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0, "channel_axis": 2}
    inside = (slice(WINDOW // 2, -(WINDOW // 2)),) * 2
    similar = structural_similarity(*pair, full=True, **settings)[1][inside][where[inside]]
    return float(similar.mean()) if similar.size else math.nan


def ms_ssim(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
    """Multi-scale structural similarity of the whole picture (Wang et al. 2003); NaN below 176 px or for another region.

    torchmetrics measures it. At the coarsest scale its windows reach over the edge, where the picture is mirrored; packages that
    leave those out give slightly other numbers. Raises `UsageError` where it is not installed.
    """
    if min(where.shape) < SMALLEST_MS or not where.all():
        return math.nan
    return float(ms_ssim_measure()(result[None], truth[None], data_range=(-1.0, 1.0)))


def ms_ssim_measure() -> Callable[..., Tensor]:
    """What measures MS-SSIM. Raises `UsageError` where it is not installed."""
    try:
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure
    except ImportError as error:
        cause = f"ms_ssim: needs {error.name}, which is not installed"
        raise UsageError(f"{cause}; pip install 'inpaintkit[evaluate]' brings it, or choose other metrics") from None
    return measure


METRICS = {
    "psnr": Metric(psnr, True, "dB"),
    "mae": Metric(mae, False, "of 255"),
    "ssim": Metric(ssim, True),
    "ms_ssim": Metric(ms_ssim, True),
}
"""Metrics that need no weights."""


def measured(
    result: Tensor, truth: Tensor, hole: np.ndarray, names: Sequence[str], networks: Mapping[str, Maps] | None = None
) -> dict[str, dict[str, float]]:
    """Region -> metric -> value: of `METRICS` those named, and of every network, which is run once for all regions: LPIPS, or the same
    form on other features, of positions whose cell touches the region; NaN below 32 px."""
    places = {region: within(hole, region) for region in REGIONS}
    values: dict[str, dict[str, float]] = {
        region: {name: METRICS[name].of(result, truth, where) for name in names} for region, where in places.items()
    }
    for name, network in (networks or {}).items():
        for region, value in zip(REGIONS, _distances(network, result, truth, list(places.values())), strict=True):
            values[region][name] = value
    return values


@torch.no_grad()
def _distances(network: Maps, result: Tensor, truth: Tensor, places: Sequence[np.ndarray]) -> list[float]:
    if min(result.shape[1:]) < SMALLEST:
        return [math.nan] * len(places)
    maps = network(result[None], truth[None])
    return [float(distance(maps, torch.from_numpy(where)[None, None])) for where in places]


def changed(result: np.ndarray, source: np.ndarray, hole: np.ndarray) -> float:
    """Largest difference outside the hole; 0 is the promise. Arrays `(H, W, C)` in [0, 255], of which only bytes are whole numbers."""
    outside = np.abs(result.astype(float) - source)[~hole]
    return float(outside.max()) if outside.size else 0.0


def seam(result: Tensor, truth: Tensor, hole: np.ndarray, depth: int = 0) -> float:
    """Mean absolute difference of neighbouring pixels across the hole's outline, result over truth; 1 = as in the truth.

    depth: look so many pixels inside the hole instead. NaN where there are no such pixels.
    """
    if hole.all() or not hole.any():
        return math.nan
    inner = ndimage.distance_transform_edt(np.pad(hole, 1, constant_values=True))[1:-1, 1:-1] > depth
    steps = []
    for picture in (result, truth):
        down, right = (picture[:, 1:] - picture[:, :-1]).abs().mean(0), (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean(0)
        steps.append(float(torch.cat([down[inner[1:] != inner[:-1]], right[inner[:, 1:] != inner[:, :-1]]]).mean()))
    return steps[0] / steps[1] if steps[1] else math.nan


def diversity(samples: Sequence[Tensor], hole: np.ndarray, between: Callable[[Tensor, Tensor, np.ndarray], float] | None = None) -> float:
    """Mean distance between all pairs of samples in the hole: `between`, or the root mean square difference, of 255."""

    def rms(a: Tensor, b: Tensor, where: np.ndarray) -> float:
        return float((a - b)[:, torch.from_numpy(where)].square().mean().sqrt()) * 127.5

    pairs = [(a, b) for i, a in enumerate(samples) for b in samples[:i]]
    return float(np.mean([(between or rms)(a, b, hole) for a, b in pairs])) if pairs else math.nan


def expanded(n: int, level: float = 0.95) -> tuple[float, float]:
    """Quantiles of resampled means of n values that make a 95 % interval. The percentiles of few values are too near: they are taken
    further out, as far as makes the interval of a normal distribution that of Student's t (expanded percentiles, Hesterberg 2015)."""
    tail = float(ndtr(stdtrit(n - 1, (1 - level) / 2) * math.sqrt(n / (n - 1))))
    return tail, 1 - tail


def interval(values: Sequence[float], level: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the mean (Efron 1979) of the finite values, by `expanded` percentiles; (NaN, NaN) for fewer than `FEWEST`."""
    array = np.asarray(values, float)
    array = array[np.isfinite(array)]
    n = len(array)
    if n < FEWEST:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    block = max(1, 1_000_000 // len(array))  # draws in memory at once
    means = [array[rng.integers(len(array), size=(min(block, draws - i), len(array)))].mean(1) for i in range(0, draws, block)]
    low, high = np.quantile(np.concatenate(means), expanded(n, level))
    return float(low), float(high)
