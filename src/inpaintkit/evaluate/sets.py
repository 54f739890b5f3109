"""Distances between two sets of pictures, from features `(N, D)` of any extractor: Frechet's (FID) and the kernel one (KID).

They are FID and KID only with the features of `inception.py`. Fake picture i was made from real picture i.
"""

import math

import numpy as np
from numpy.typing import NDArray

from inpaintkit.core.errors import UsageError

NAMES = ("kid", "fid")
LEAST = 2000
"""Pictures from which FID is given: its bias falls with their number and is larger than most differences below."""
BLOCK = 1024
"""Rows of the kernel's matrix that are in memory at once."""


def frechet(real: NDArray, fake: NDArray) -> float:
    """Frechet distance of two Gaussians with the means and covariances of the features (Dowson and Landau 1982; Heusel et al. 2017, eq. 6).

    tr (S R)^(1/2) is the sum of singular values of A B^T where S = A^T A and R = B^T B. So no root is taken of a matrix that is
    singular, as all covariances of fewer pictures than features are. NaN for fewer than two pictures.
    """
    if min(len(real), len(fake)) < 2:
        return math.nan
    means: list[NDArray] = []
    factors: list[NDArray] = []
    traces = 0.0
    for features in (np.asarray(real, float), np.asarray(fake, float)):
        means.append(features.mean(0))
        centred = (features - means[-1]) / math.sqrt(len(features) - 1)
        traces += float(np.square(centred).sum())
        factors.append(np.asarray(np.linalg.qr(centred, "r")) if len(centred) > centred.shape[1] else centred)
    cross = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    return float(np.square(means[0] - means[1]).sum() + traces - 2 * cross)


def too_few(pictures: int) -> str | None:
    """Why FID is not given of so many pictures; None where it is."""
    return None if pictures >= LEAST else f"{pictures} pictures, and it is biased below {LEAST:,}; use kid, which is not"


def fid(real: NDArray, fake: NDArray) -> float:
    """`frechet`, given from `LEAST` pictures only. Raises `UsageError` below."""
    if few := too_few(min(len(real), len(fake))):
        raise UsageError(f"fid: {few}")
    return frechet(real, fake)


def kernel(real: NDArray, fake: NDArray) -> tuple[float, float, float]:
    """(estimate, low, high) of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018).

    The estimate of Gretton et al. 2012, eq. 4, over all pictures: no picture is compared with itself or with what was made from
    it, so that it is unbiased for pairs too. (Published KID averages over random subsets, which hold few pairs.) Its 95 %
    interval is by the jackknife, one pair left out at a time. NaN for fewer than three pairs.

    Raises `ValueError` for sets of unequal size.
    """
    n = len(real)
    if len(fake) != n:
        raise ValueError(f"{n} real and {len(fake)} fake pictures; each fake one belongs to a real one")
    if n < 3:
        return math.nan, math.nan, math.nan
    x, y = np.asarray(real, float), np.asarray(fake, float)
    of_pair = _sums(x, x) + _sums(y, y) - _sums(x, y) - _sums(y, x)
    left = (of_pair.sum() - 2 * of_pair) / ((n - 1) * (n - 2))
    value, error = of_pair.sum() / (n * (n - 1)), math.sqrt((n - 1) / n * np.square(left - left.mean()).sum())
    return float(value), float(value - 1.96 * error), float(value + 1.96 * error)


def _sums(x: NDArray, y: NDArray) -> NDArray:
    """Sums over j != i of the kernel's matrix, for each row i."""
    rows = [_kernel(x[start : start + BLOCK] @ y.T, x).sum(1) for start in range(0, len(x), BLOCK)]
    return np.concatenate(rows) - _kernel((x * y).sum(1), x)


def _kernel(product: NDArray, x: NDArray) -> NDArray:
    cubed: NDArray = (product / x.shape[1] + 1) ** 3
    return cubed
