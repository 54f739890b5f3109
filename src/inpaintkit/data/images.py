"""Pictures and masks, from any kind of source and back: the interface of `data` to everything above it.

`picture.py` holds samples and changes their range, `reading.py` reads files with `formats.py`, which
states the rule for every kind of pixel, `png.py` and `tiff.py` do 16 bits, `writing.py` writes, `holes.py` makes masks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.data.holes import (
    Hole,
    check_hole,
    known_from_hole,
    mask_from_alpha,
    mask_from_boxes,
    mask_from_color,
    mask_from_nan,
    mask_notes,
    read_mask,
    read_mask_noted,
)
from inpaintkit.data.picture import LIMITS, LUMA, Box, Limits, Picture, check_span, from_array
from inpaintkit.data.reading import from_pil, read_bytes, read_picture
from inpaintkit.data.writing import check_output, default_output, encode_png, stacked, to_pil, write_picture

__all__ = [
    "LIMITS",
    "LUMA",
    "Box",
    "Hole",
    "Limits",
    "Picture",
    "check_hole",
    "check_output",
    "default_output",
    "encode_png",
    "from_array",
    "from_pil",
    "from_tensor",
    "known_from_hole",
    "mask_from_alpha",
    "mask_from_boxes",
    "mask_from_color",
    "mask_from_nan",
    "mask_notes",
    "read_bytes",
    "read_mask",
    "read_mask_noted",
    "read_picture",
    "stacked",
    "to_picture",
    "write_picture",
]

Restore = Callable[[Picture], Any]
"""Turns a filled picture into what the caller passed: same kind, size and dtype, known values the original ones."""


def to_picture(source: Any, limits: Limits = LIMITS, name: str | None = None) -> tuple[Picture, Restore]:
    """Any source a caller may pass, as a picture, and the way back.

    | source | picture | `restore` gives |
    |---|---|---|
    | path or bytes of a file | `read_picture` | a Pillow image; an array (H, W, C) where Pillow has no such mode (16-bit colour) |
    | Pillow image | `from_pil`, not turned | a Pillow image with its profile and EXIF; palette, 1-bit and CMYK become RGB or gray |
    | array (H, W[, C]) | `from_array` | an array of the same shape and dtype |
    | tensor ([1,] C, H, W) | `from_tensor` | a tensor of the same shape, dtype and device |

    Raises `BadInput` for a source of another type, and as the functions named.
    """
    if isinstance(source, Picture):
        return source, lambda picture: picture
    if isinstance(source, str | Path | bytes):
        return read_picture(source, limits, name), _pil_or_array
    if isinstance(source, Image.Image):
        return from_pil(source, name or "image"), _pil_or_array
    if isinstance(source, np.ndarray):
        return from_array(source, name or "array"), lambda picture: stacked(picture).reshape(source.shape).astype(source.dtype)
    if isinstance(source, Tensor):
        return from_tensor(source, name or "tensor"), lambda picture: _back_to_tensor(picture, source)
    raise BadInput(f"{name or 'image'}: is a {type(source).__name__}; pass a path, a Pillow image, an array or a tensor")


def from_tensor(tensor: Tensor, name: str = "tensor") -> Picture:
    """A picture from a tensor (C, H, W) or (1, C, H, W), C = 1 or 3: floats in [-1, 1], NaN where missing, or uint8.

    Raises `BadInput` for anything else.
    """
    one = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if one.ndim != 3 or one.shape[0] not in (1, 3) or one.numel() == 0:
        raise BadInput(f"{name}: has shape {tuple(tensor.shape)}; pass one picture as (C, H, W) or (1, C, H, W) with 1 or 3 channels")
    if tensor.dtype != torch.uint8 and not tensor.dtype.is_floating_point:
        raise BadInput(f"{name}: has dtype {tensor.dtype}; convert it to floats from -1 to 1, or to uint8")
    one = one.detach().cpu().permute(1, 2, 0)
    pixels = np.array((one.float() if one.dtype == torch.bfloat16 else one).numpy(), order="C")  # numpy has no bfloat16
    check_span(pixels, -1.0, name)
    return Picture(pixels, format="TENSOR", name=name, signed=pixels.dtype.kind == "f")


def _back_to_tensor(picture: Picture, source: Tensor) -> Tensor:
    values = torch.from_numpy(picture.pixels.copy()).permute(2, 0, 1).contiguous()
    return values.reshape(source.shape).to(source.device, source.dtype)


def _pil_or_array(picture: Picture) -> Any:
    samples = stacked(picture)
    if samples.dtype != np.uint8 and (samples.dtype != np.uint16 or samples.shape[2] != 1):
        return samples
    image = to_pil(samples)
    image.info |= {key: value for key, value in (("icc_profile", picture.icc), ("exif", picture.exif)) if value}
    return image
