"""The seam: a fill meets the known pixels without a step.

Inside the hole there is nothing to blend with. But the network also rebuilds the known pixels around the hole, and what it
gets wrong there it gets wrong just inside as well: that difference is carried into the hole.
"""

import numpy as np
import torch
from torch import Tensor


def close(fill: Tensor, picture: Tensor, known: Tensor, feather: int) -> Tensor:
    """fill `(B, C, H, W)` with the difference `picture - fill` on the hole's rim carried harmonically up to `feather` px inward.

    picture `(B or 1, C, H, W)` is read only where known `(1, 1, H, W)` is 1. The correction solves Laplace's equation in
    the band of hole pixels nearer than `feather` to a known pixel: it equals the difference on the rim, and is zero at
    the band's inner end (the membrane of Perez et al. 2003, eq. 4, cut off).
    """
    from scipy import ndimage, sparse  # here for the same reason as in regions.py
    from scipy.sparse.linalg import splu

    hole = known[0, 0].cpu().numpy() < 1
    if feather <= 0 or not hole.any() or hole.all():
        return fill
    band = hole & (ndimage.distance_transform_edt(hole) <= feather)
    index = np.full((hole.shape[0] + 2, hole.shape[1] + 2), -1)
    inner = index[1:-1, 1:-1]
    inner[band] = np.arange(band.sum())
    rows, columns = np.nonzero(band)
    ring = np.pad(~hole, 1)  # known pixels; beyond the region there is nothing, which is no constraint
    inside = np.pad(np.ones_like(hole), 1)
    difference = np.pad((picture - fill).detach().cpu().double().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    degree, pairs = np.zeros(len(rows)), []
    right = np.zeros((*difference.shape[:2], len(rows)))
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        y, x = rows + 1 + dy, columns + 1 + dx
        degree += inside[y, x]
        neighbour = index[y, x]
        linked = neighbour >= 0
        pairs.append((np.flatnonzero(linked), neighbour[linked]))
        right += np.where(ring[y, x], difference[:, :, y, x], 0.0)
    i, j = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
    laplace = sparse.csc_matrix((np.full(len(i), -1.0), (i, j)), (len(rows), len(rows))) + sparse.diags(np.maximum(degree, 1), format="csc")
    solution = splu(laplace.tocsc()).solve(right.reshape(-1, len(rows)).T).T.reshape(right.shape)
    out = fill.clone()
    out[:, :, torch.from_numpy(rows), torch.from_numpy(columns)] += torch.from_numpy(solution).to(fill)
    return out
