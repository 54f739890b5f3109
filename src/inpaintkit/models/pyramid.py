"""Known values extended into the unknown, for networks to start from."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pushpull(picture: Tensor, known: Tensor) -> Tensor:
    """Extend known colours into the unknown: known-weighted 2x2 means down to one pixel, bilinear back up.

    picture `(B, C, H, W)`, known `(B, 1, H, W)`; known values are kept, nothing known gives 0. An input to the network
    only, never an output (after the pull-push pyramid of Gortler et al. 1996, The Lumigraph, section 3.4).
    """
    picture = torch.where(known > 0, picture, 0)  # whatever it holds elsewhere, NaN too
    if max(picture.shape[2:]) == 1:
        return picture
    share = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(picture, 2, ceil_mode=True, count_include_pad=False) / share.clamp(min=1e-6)
    coarse = pushpull(mean, (share > 0).to(known.dtype))
    return picture + (1 - known) * F.interpolate(coarse, picture.shape[2:], mode="bilinear", align_corners=False)
