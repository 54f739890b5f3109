"""inpaintkit: fill the missing part of a picture or array with diffusion models.

Conventions, stated here once and repeated nowhere:

* Image tensors are `(B, C, H, W)`, float32, RGB, in [-1, 1]. Files and arrays change range in `data/picture.py` only.
* In files and in the public interface a mask is white / 1 / True where the **hole** is, the part to be filled. Inside
  the formulas the tensor is called `known`, `(B or 1, 1 or C, H, W)`, 1 = the value is known.
* Time: `t = 0` is the clean image, `t = T` almost pure noise; `alpha_bar` has `T + 1` entries and `alpha_bar[0] = 1`.
  Networks of the field count from 0: they are called with `t - 1`, in `models/denoisers.py` and nowhere else.
* Guidance scale `w`: 0 = unconditional, 1 = conditional, > 1 = stronger.
* Randomness comes from `core.noise.Noise`, one generator per image and stream, always passed in.
* A picture never depends on its batch mates: the network is called with a fixed, padded micro-batch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inpaintkit.core.walk import Walk
    from inpaintkit.data.masks import MASKS
    from inpaintkit.evaluate.metrics import METRICS
    from inpaintkit.methods import METHODS
    from inpaintkit.methods.copaint import CoPaint
    from inpaintkit.methods.ddnm import DDNM
    from inpaintkit.methods.dps import DPS
    from inpaintkit.methods.ilvr import ILVR
    from inpaintkit.methods.plain import Plain
    from inpaintkit.methods.repaint import RePaint
    from inpaintkit.models.catalog import MODELS
    from inpaintkit.pipeline.fill import Inpainter
    from inpaintkit.pipeline.job import Options

__version__ = "0.1.0"

# Public names are imported when they are first asked for, so that `import inpaintkit` costs nothing.
_LAZY = {
    "Inpainter": "inpaintkit.pipeline.fill",
    "Options": "inpaintkit.pipeline.job",
    "Plain": "inpaintkit.methods.plain",
    "RePaint": "inpaintkit.methods.repaint",
    "ILVR": "inpaintkit.methods.ilvr",
    "DDNM": "inpaintkit.methods.ddnm",
    "DPS": "inpaintkit.methods.dps",
    "CoPaint": "inpaintkit.methods.copaint",
    "Walk": "inpaintkit.core.walk",
    "METHODS": "inpaintkit.methods",
    "MODELS": "inpaintkit.models.catalog",
    "MASKS": "inpaintkit.data.masks",
    "METRICS": "inpaintkit.evaluate.metrics",
}
__all__ = ["DDNM", "DPS", "ILVR", "MASKS", "METHODS", "METRICS", "MODELS", "CoPaint", "Inpainter", "Options", "Plain", "RePaint", "Walk"]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'inpaintkit' has no attribute {name!r}; it has {', '.join(_LAZY)}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
