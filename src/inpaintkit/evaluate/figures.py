"""A figure of a table: a mean over pictures, with its interval."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import fmean
from typing import Protocol, TypeVar

from inpaintkit.evaluate.metrics import FEWEST, interval

Z = 1.959964  # of a normal distribution 95 % lie within so many standard deviations
AREAS = tuple(tenth / 10 for tenth in range(11))
"""Edges of the bins of the hole's share of the picture; each bin holds its upper edge, as NVIDIA's irregular masks do."""


class Holed(Protocol):
    """What was measured of one result."""

    @property
    def area(self) -> float:
        """Share of the picture that is hole."""


T = TypeVar("T", bound=Holed)


@dataclass(frozen=True)
class Figure:
    """A mean over pictures with its 95 % bootstrap interval."""

    mean: float
    """Of the finite values, those of one picture averaged first."""
    low: float
    high: float
    n: int
    """Pictures in the mean."""
    exact: int = 0
    """Results without any error, whose PSNR is infinite and not in the mean."""


def figure(values: Iterable[tuple[str, float]]) -> Figure:
    """The figure of (picture, value) pairs. Masks and seeds of one picture are no independent draws, so pictures are drawn, not pairs."""
    return _figure(tuple(values))


def share(values: Iterable[tuple[str, float]]) -> Figure:
    """The figure of (picture, value) pairs with values in [0, 1], those of one picture averaged first: Wilson's interval (1927), for
    resampling 24 wins of 24 would say that there is no doubt. Too wide, not too narrow, where a picture has several values."""
    groups: dict[str, list[float]] = {}
    for picture, value in values:
        groups.setdefault(picture, []).append(value)
    n = len(groups)
    p = fmean(fmean(group) for group in groups.values()) if n else math.nan
    if n < FEWEST:
        return Figure(p, math.nan, math.nan, n)
    middle, half = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return Figure(p, (middle - half) / (1 + Z**2 / n), (middle + half) / (1 + Z**2 / n), n)


@cache
def _figure(values: tuple[tuple[str, float], ...]) -> Figure:
    groups: dict[str, list[float]] = {}
    for picture, value in values:
        if math.isfinite(value):
            groups.setdefault(picture, []).append(value)
    means = [fmean(group) for group in groups.values()]
    return Figure(fmean(means) if means else math.nan, *interval(means), len(means), sum(math.isinf(value) for _, value in values))


def by_area(measured: Iterable[T]) -> dict[str, list[T]]:
    """Bin of `AREAS` that holds any -> what it holds."""
    kept = list(measured)
    bins = {f"{low:.0%} to {high:.0%}": [one for one in kept if low < one.area <= high] for low, high in pairwise(AREAS)}
    return {name: inside for name, inside in bins.items() if inside}
