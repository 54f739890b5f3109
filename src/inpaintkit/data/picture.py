"""A picture in memory: the samples as they were stored, and the one place where samples and network values meet.

A file, an array or a tensor becomes a `Picture`; a window of it becomes a tensor in [-1, 1]; what a model made for the
window goes back into the hole only. Samples outside the hole are never converted, so they stay the original values.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from inpaintkit.core.errors import BadInput, OverLimit
from inpaintkit.core.settings import Settings

Box = tuple[int, int, int, int]
"""`(x0, y0, x1, y1)` in pixels, the last two exclusive."""

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601: how three channels become gray, as in Pillow, OpenCV and JPEG."""


@dataclass(frozen=True)
class Limits(Settings):
    """What a picture may cost. Checked from its header, before anything is decoded."""

    max_pixels: Annotated[int, Field(gt=0)] = 100_000_000
    """Most pixels (width times height) a picture may have."""
    max_bytes: Annotated[int, Field(gt=0)] = 1 << 30
    """Most bytes a file may have, and most bytes its decoded samples may take."""


LIMITS = Limits()


def check_size(name: str, width: int, height: int, sample_bytes: int, limits: Limits) -> None:
    """Raise `OverLimit` when width x height pixels of `sample_bytes` bytes each are more than allowed."""
    if width < 1 or height < 1:
        raise BadInput(f"{name}: has no pixels ({width}x{height}); choose another picture")
    if width * height > limits.max_pixels:
        raise OverLimit(
            f"{name}: {width}x{height} is {width * height:,} pixels, more than the limit of {limits.max_pixels:,}; "
            f"pass --max-pixels {width * height} to allow it"
        )
    if width * height * sample_bytes > limits.max_bytes:
        raise OverLimit(
            f"{name}: {width}x{height} decodes to {width * height * sample_bytes:,} bytes, more than the limit of {limits.max_bytes:,}; "
            f"pass --max-bytes {width * height * sample_bytes} to allow it"
        )


@dataclass(frozen=True)
class Picture:
    """An upright picture with the samples it was stored with, never narrowed.

    Integer samples span [0, 255] or [0, 65535]; float samples span [0, 1], or [-1, 1] when `signed` (tensors are). Float
    samples may be NaN: the value is missing, and the tensor holds mid-grey there.
    """

    pixels: NDArray
    """(H, W, C): uint8, uint16 or floating; C = 1 gray, 3 RGB."""
    alpha: NDArray | None = None
    """(H, W), the dtype of `pixels`; the largest value is opaque."""
    icc: bytes | None = None
    """Colour profile, untouched."""
    exif: bytes | None = None
    """EXIF block without orientation (applied already), thumbnail and maker notes."""
    format: str = "ARRAY"
    """"PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "NPY", "PIL", "ARRAY" or "TENSOR": where it came from."""
    lossy: bool = False
    """Its own format cannot keep the pixels (JPEG, lossy WebP, GIF): the output is PNG unless asked otherwise."""
    name: str = "picture"
    """For messages."""
    notes: tuple[str, ...] = ()
    """What the reader had to decide, one sentence each."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Chunks saying what the numbers mean (gAMA, cHRM, sRGB, cICP, pHYs), carried from PNG to PNG."""
    signed: bool = False
    """Float samples span [-1, 1]."""

    @property
    def size(self) -> tuple[int, int]:
        """(W, H)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest sample value: black and white."""
        if self.pixels.dtype.kind == "u":
            return 0.0, float(np.iinfo(self.pixels.dtype).max)
        return (-1.0 if self.signed else 0.0), 1.0

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(H, W), True where a sample is NaN; never for integer samples."""
        if self.pixels.dtype.kind == "u":
            return np.zeros(self.pixels.shape[:2], bool)
        return np.isnan(self.pixels).any(axis=2)

    def tensor(self) -> Tensor:
        """The whole picture, (1, 3, H, W) float32 in [-1, 1]; gray is repeated three times."""
        width, height = self.size
        return self.region((0, 0, width, height))

    def region(self, box: Box) -> Tensor:
        """The window `box`, (1, 3, h, w) float32 in [-1, 1]. Pixels outside it are not touched.

        Alpha is not applied: colours are what is stored. Raises `ValueError` when the box leaves the picture.
        """
        low, high = self.span
        samples = self.pixels[self._window(box)].astype(np.float32)
        values = torch.from_numpy((samples - low) * (2 / (high - low)) - 1).float().permute(2, 0, 1)
        return values.nan_to_num(0.0).expand(3, -1, -1).contiguous()[None]

    def pasted(self, box: Box, values: Tensor, hole: NDArray[np.bool_]) -> "Picture":
        """A copy in which the hole's pixels inside `box` are `values`; every other sample is the original one.

        `values` (1, 3, h, w) in [-1, 1], clipped and rounded to the picture's depth; a gray picture takes their luma
        (`LUMA`). `hole` is bool, (H, W) of the picture or (h, w) of the window. Alpha becomes opaque in the hole.
        Raises `ValueError` for shapes that do not fit and values that are not finite.
        """
        return self.with_parts([(box, values)], hole)

    def with_parts(self, parts: Iterable[tuple[Box, Tensor]], hole: NDArray[np.bool_]) -> "Picture":
        """`pasted` for many windows, copying the picture once."""
        pixels, alpha = self.pixels.copy(), None if self.alpha is None else self.alpha.copy()
        for box, values in parts:
            window, inside, samples = self._samples(box, values, hole)
            pixels[window][inside] = samples
            if alpha is not None:
                alpha[window][inside] = self.span[1]
        return replace(self, pixels=pixels, alpha=alpha)

    def _samples(self, box: Box, values: Tensor, hole: NDArray[np.bool_]) -> tuple[tuple[slice, slice], NDArray[np.bool_], NDArray]:
        """(window, hole inside it, samples of the hole's pixels in this picture's range and channels)."""
        window = self._window(box)
        shape = (box[3] - box[1], box[2] - box[0])
        inside = hole[window] if hole.shape == self.pixels.shape[:2] else hole
        if inside.dtype != bool or inside.shape != shape or values.shape != (1, 3, *shape):
            raise ValueError(
                f"values {tuple(values.shape)} and hole {hole.dtype} {hole.shape} do not fit the box {box} of a {self.size} picture"
            )
        filled = values[0].detach().cpu().double().permute(1, 2, 0).numpy()[inside]
        if not np.isfinite(filled).all():
            raise ValueError("the values to paste hold NaN or infinity")
        if self.pixels.shape[2] == 1:
            filled = filled @ np.array(LUMA)[:, None]
        low, high = self.span
        samples = low + (filled.clip(-1, 1) + 1) * ((high - low) / 2)
        return window, inside, samples.round() if self.pixels.dtype.kind == "u" else samples

    def _window(self, box: Box) -> tuple[slice, slice]:
        x0, y0, x1, y1 = box
        if not (0 <= x0 < x1 <= self.size[0] and 0 <= y0 < y1 <= self.size[1]):
            raise ValueError(f"box {box} leaves the picture of size {self.size}")
        return slice(y0, y1), slice(x0, x1)


def from_array(array: NDArray, name: str = "array") -> Picture:
    """A picture from an array: (H, W), or (H, W, C) with C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha.

    uint8 or uint16, or floats in [0, 1]; NaN marks a missing value. The array is copied. Raises `BadInput` for anything else.
    """
    array = np.asarray(array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    samples = array[:, :, None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4):
        raise BadInput(f"{name}: has shape {array.shape}; pass (H, W) or (H, W, C) with 1 to 4 channels last")
    if samples.size == 0:
        raise BadInput(f"{name}: has no pixels (shape {array.shape}); choose another picture")
    if array.dtype == bool:
        raise BadInput(f"{name}: is a bool array, which is a mask; pass uint8, uint16 or floats from 0 to 1 as the picture")
    if array.dtype not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise BadInput(f"{name}: has dtype {array.dtype}; convert it to uint8, uint16 or floats from 0 to 1")
    samples = np.array(samples, order="C")
    check_span(samples, 0.0, name)
    has_alpha = samples.shape[2] in (2, 4)
    if has_alpha and np.isnan(samples[:, :, -1]).any():
        raise BadInput(f"{name}: has NaN in its alpha channel; set alpha to 0 or 1")
    pixels = np.ascontiguousarray(samples[:, :, :-1]) if has_alpha else samples
    return Picture(pixels, np.ascontiguousarray(samples[:, :, -1]) if has_alpha else None, name=name)


def check_span(samples: NDArray, low: float, name: str) -> None:
    """Raise `BadInput` when float samples leave [low, 1] or are infinite. NaN may stay: it means missing."""
    if samples.dtype.kind != "f" or np.isnan(samples).all():
        return
    smallest, largest = float(np.nanmin(samples)), float(np.nanmax(samples))
    if smallest < low or largest > 1:
        raise BadInput(f"{name}: has values from {smallest:g} to {largest:g}; scale floats to {low:g} ... 1, or pass uint8 or uint16")
