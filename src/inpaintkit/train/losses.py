"""How much each noise level, and each place of a picture, counts in the loss."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from inpaintkit.core.errors import UsageError
from inpaintkit.core.schedule import NoiseSchedule, Number

Weighting = Literal["plain", "min-snr"]


def check(prediction: str, weighting: Weighting, snr_clip: Sequence[float]) -> None:
    """Raise `UsageError` for bounds of the ratio in the wrong order, and for those that leave the weight unbounded."""
    low, high = snr_clip
    if low > high:
        raise UsageError(f"task.snr_clip = ({low:g}, {high:g}): the lower bound comes first")
    if prediction == "eps" and weighting == "min-snr" and low > 0:
        raise UsageError("task.snr_clip: a floor gives eps at the noisiest levels unbounded weight; use (0, 5), or predict x0 or v")


def weight(prediction: str, weighting: Weighting, schedule: NoiseSchedule, t: Tensor, snr_clip: Sequence[float]) -> Number:
    """Weight `(B, 1, 1, 1)` of the squared error of what is predicted ("x0", "eps" or "v") at the levels t `(B,)`.

    plain: 1. min-snr: that of x0 counts as the signal-to-noise ratio within bounds (Hang et al. 2023, eq. 6); the error of x0
    is that of eps over the ratio, and that of v times 1 - alpha_bar.
    """
    if weighting == "plain":
        return torch.ones_like(schedule.snr(t))
    snr = schedule.snr(t).clamp(min=1e-20)
    clipped = snr.clamp(*snr_clip)
    match prediction:
        case "x0":
            return clipped
        case "eps":
            return clipped / snr
        case _:
            return clipped * schedule.sigma(t) ** 2


def squared(
    prediction: str, weighting: Weighting, schedule: NoiseSchedule, snr_clip: Sequence[float],
    out: Tensor, x0: Tensor, noise: Tensor, t: Tensor, pixel: Tensor,
) -> Tensor:  # fmt: skip
    """Weighted mean squared error of what a network predicted, `out` `(B, C, H, W)`, of x0 under this noise at the levels t `(B,)`
    (Ho et al. 2020, eq. 14, and its x0 and v forms); pixel `(B, 1, H, W)`: how much each place counts."""
    error = (out - schedule.target(prediction, x0, noise, t)).square()
    return (weight(prediction, weighting, schedule, t, snr_clip) * pixel * error).mean()


def mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over the batch of each picture's weighted sum; values and weight `(B, 1, H, W)`, the weights of a picture of sum 1."""
    return (values * weight).sum((1, 2, 3)).mean()
