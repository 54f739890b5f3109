"""Metrics of filled pictures against the truth.

Pictures are `(3, H, W)` float32 tensors in [-1, 1], holes `(H, W)` bool arrays, True = hole. A region is where a metric looks:
the whole picture, the hole, or the border: known and filled pixels within `BORDER` px of the hole's outline. Errors are
raised by nobody here: what a metric cannot say of a picture is NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import Tensor

from inpaintkit.evaluate.features import LPIPS, distance

Region = Literal["whole", "hole", "border"]
REGIONS: tuple[Region, ...] = ("whole", "hole", "border")
BORDER = 4
"""Pixels on either side of the hole's outline that make the border region."""
SMALLEST_MS = 161
"""Shorter side from which MS-SSIM is defined: five scales of an 11 px window (Wang et al. 2003)."""


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
    return (ndimage.distance_transform_edt(hole) <= BORDER) & hole | (ndimage.distance_transform_edt(~hole) <= BORDER) & ~hole


def psnr(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
    """Peak signal-to-noise ratio over the region, dB; infinite for equal pictures."""
    error = float((result - truth)[:, torch.from_numpy(where)].double().square().mean())
    return float(10 * np.log10(4 / error)) if error else np.inf


def mae(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
    """Mean absolute error over the region, of 255."""
    return float((result - truth)[:, torch.from_numpy(where)].double().abs().mean()) * 127.5


def ssim(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
    """Structural similarity, Gaussian windows of 1.5 px (Wang et al. 2004), its map averaged over the region."""
    if min(where.shape) < 11:
        return np.nan
    pair = [x.permute(1, 2, 0).double().numpy() for x in (result, truth)]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0, "channel_axis": 2}
    return float(structural_similarity(*pair, full=True, **settings)[1].mean(2)[where].mean())


def ms_ssim(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
    """Multi-scale structural similarity of the whole picture (Wang et al. 2003); NaN below 161 px or for another region."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure

    if min(where.shape) < SMALLEST_MS or not where.all():
        return np.nan
    return float(measure(result[None], truth[None], data_range=(-1.0, 1.0)))


METRICS = {
    "psnr": Metric(psnr, True, "dB"),
    "mae": Metric(mae, False, "of 255"),
    "ssim": Metric(ssim, True),
    "ms_ssim": Metric(ms_ssim, True),
}
"""Metrics that need no weights."""


def perceptual(network: LPIPS) -> Metric:
    """LPIPS, or the same form on other features, of positions whose cell touches the region."""

    @torch.no_grad()
    def of(result: Tensor, truth: Tensor, where: np.ndarray) -> float:
        return float(distance(network(result[None], truth[None]), torch.from_numpy(where)[None, None].float()))

    return Metric(of, False)


def changed(result: np.ndarray, source: np.ndarray, hole: np.ndarray) -> float:
    """Largest difference outside the hole, of 255; 0 is the promise. Arrays `(H, W, 3)` uint8."""
    outside = np.abs(result.astype(int) - source)[~hole]
    return float(outside.max()) if outside.size else 0.0


def seam(result: Tensor, truth: Tensor, hole: np.ndarray, depth: int = 0) -> float:
    """Mean absolute difference of neighbouring pixels across the hole's outline, result over truth; 1 = as in the truth.

    depth: look so many pixels inside the hole instead. NaN where there are no such pixels.
    """
    inner = ndimage.distance_transform_edt(np.pad(hole, 1, constant_values=True))[1:-1, 1:-1] > depth
    steps = []
    for picture in (result, truth):
        down, right = (picture[:, 1:] - picture[:, :-1]).abs().mean(0), (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean(0)
        steps.append(float(torch.cat([down[inner[1:] != inner[:-1]], right[inner[:, 1:] != inner[:, :-1]]]).mean()))
    return steps[0] / steps[1] if steps[1] else np.nan


def diversity(samples: Sequence[Tensor], hole: np.ndarray, between: Callable[[Tensor, Tensor, np.ndarray], float] | None = None) -> float:
    """Mean distance between all pairs of samples in the hole: `between`, or the root mean square difference, of 255."""

    def rms(a: Tensor, b: Tensor, where: np.ndarray) -> float:
        return float((a - b)[:, torch.from_numpy(where)].square().mean().sqrt()) * 127.5

    pairs = [(a, b) for i, a in enumerate(samples) for b in samples[:i]]
    return float(np.mean([(between or rms)(a, b, hole) for a, b in pairs])) if pairs else np.nan


def interval(values: Sequence[float], level: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean (Efron 1979); (NaN, NaN) for fewer than two values."""
    array = np.asarray(values, float)
    array = array[np.isfinite(array)]
    if len(array) < 2:
        return np.nan, np.nan
    means = array[np.random.default_rng(seed).integers(len(array), size=(draws, len(array)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wins(mine: Sequence[float], theirs: Sequence[float], higher: bool) -> float:
    """Share of paired pictures on which mine is better; ties count half."""
    difference = (np.asarray(mine, float) - np.asarray(theirs, float)) * (1 if higher else -1)
    return float((difference > 0).mean() + (difference == 0).mean() / 2)
