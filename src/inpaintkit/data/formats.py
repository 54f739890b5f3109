"""From the bytes of each kind of file to samples, with the size checked in the header first.

What becomes of each kind of pixel, the one rule:

* Orientation in EXIF is applied and removed; the rest of EXIF stays, but for thumbnail and maker notes (both can show or
  describe the pixels that were there before).
* 8-bit gray, RGB and alpha are kept as they are, and so are 16-bit gray, RGB and alpha of PNG and TIFF.
* 1, 2 and 4 bits become 8-bit gray and a palette becomes RGB, or RGBA when it has transparency: wider, nothing is lost.
  One transparent colour (PNG tRNS) becomes an alpha channel.
* CMYK becomes sRGB by the embedded profile, or by (1 - C)(1 - K) ... without one; the profile then names sRGB.
* Premultiplied alpha is divided out. The first frame or page is read. Both are noted.
* Anything else (float, 12 or 32 bits, Lab, channels of unknown meaning) is refused: it would be narrowed.
"""

import contextlib
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from inpaintkit.core.errors import BadInput
from inpaintkit.data import png, tiff
from inpaintkit.data.decoding import DAMAGE, decoding, no_stderr, pillow
from inpaintkit.data.picture import Limits, check_size

PREMULTIPLIED = "premultiplied alpha was divided out; colours of translucent pixels are rounded"


@dataclass(frozen=True)
class Decoded:
    """What a decoder hands over: samples (H, W, C), alpha last when there is one, not yet upright."""

    samples: NDArray
    icc: bytes | None = None
    exif: bytes | None = None
    lossy: bool = False
    orientation: int | None = None
    """Overrides EXIF: TIFF keeps it among its tags, and Pillow has applied it at 8 bits."""
    notes: tuple[str, ...] = ()
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()


def _decode_png(data: bytes, name: str, limits: Limits) -> Decoded:
    with decoding(name):
        header = png.read_header(data)
    check_size(name, header.width, header.height, 4 if header.depth < 16 else 2 * header.channels, limits)
    with decoding(name):
        chunks = png.read_chunks(data)
        key = png.colour_key(header, chunks)
        icc, notes = png.profile(chunks), tuple[str, ...]()
        if header.depth == 16:
            samples = png.decode_16(header, chunks[b"IDAT"])
        else:
            with pillow(name), PngImageFile(io.BytesIO(png.bare(header, chunks))) as image:
                samples, icc, notes = samples_of(image, icc, name)
    if key is not None:
        samples = keyed(samples, key)
    if b"acTL" in chunks:
        notes += ("the picture is animated; only its first frame is used",)
    meaning = tuple((kind, chunks[kind]) for kind in png.MEANING if kind in chunks)
    return Decoded(samples, icc, chunks.get(b"eXIf"), notes=notes, png_chunks=meaning)


def _decode_tiff(data: bytes, name: str, limits: Limits) -> Decoded:
    with pillow(name):
        header = tiff.read_header(data)
        width, height = header.number(tiff.WIDTH, 0), header.number(tiff.HEIGHT, 0)
        tile = header.number(tiff.TILE_WIDTH, 1), header.number(tiff.TILE_HEIGHT, 1)
        orientation = header.number(tiff.ORIENTATION, 1)
        deep = max(header.bits) > 8 or set(header.values(tiff.FORMAT, (1,))) != {1}
    check_size(name, width, height, 2 * header.samples if deep else 4, limits)
    check_size(name, *tile, 1, limits)
    notes: tuple[str, ...] = ("the file has several pages; only the first is used",) if header.more_pages else ()
    with decoding(name):
        refusal = tiff.refusal(header)
    if refusal:
        raise BadInput(f"{name}: {refusal}")
    if deep:
        with pillow(name), no_stderr():
            samples = tiff.decode_16(data, header)
            icc = header.tags.get(tiff.ICC)
        if tiff.ASSOCIATED in header.values(tiff.EXTRA):
            samples, more = _unpremultiplied(samples)
            notes += more
    else:
        with pillow(name), no_stderr(), TiffImageFile(io.BytesIO(data)) as image:
            samples, icc, more = samples_of(image, image.info.get("icc_profile"), name)
            orientation = 1  # Pillow has applied it
            wide = any(value % 257 and value % 256 for value in header.values(tiff.COLOUR_MAP)) if image.mode == "P" else False
            if tiff.ASSOCIATED in header.values(tiff.EXTRA) and (samples[:, :, -1] < 255).any():
                more += (PREMULTIPLIED,)  # Pillow has divided it out
        notes += more + (("the 16-bit palette was rounded to 8 bits",) if wide else ())
    exif = data if data[2:3] != b"\x2b" and data[3:4] != b"\x2b" else None  # Pillow finds no EXIF in a BigTIFF
    return Decoded(samples, icc if isinstance(icc, bytes) else None, exif, False, orientation, notes)


def _decode_webp(data: bytes, name: str, limits: Limits) -> Decoded:
    with decoding(name):
        width, height, lossy = _webp_header(data)
    check_size(name, width, height, 4, limits)
    with pillow(name), WebPImageFile(io.BytesIO(data)) as image:
        samples, icc, notes = samples_of(image, image.info.get("icc_profile"), name)
        if image.n_frames > 1:
            notes += ("the picture is animated; only its first frame is used",)
        return Decoded(samples, icc, image.info.get("exif"), lossy, notes=notes)


def _webp_header(data: bytes) -> tuple[int, int, bool]:
    """Width, height and whether the first frame is lossy. Source: RFC 9649."""
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise ValueError("truncated")
    size, position = None, 12
    for _ in range(100):
        kind, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 38]
        if kind == b"VP8X":
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif kind == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            return *(size or (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))), False
        elif kind == b"VP8 ":
            wide, high = struct.unpack_from("<HH", body, 6)
            return *(size or (wide & 0x3FFF, high & 0x3FFF)), True
        position += 8 + (16 if kind == b"ANMF" else length + length % 2)  # chunks of the first frame stand inside its ANMF
    raise ValueError("holds no picture data")


def _decode_gif(data: bytes, name: str, limits: Limits) -> Decoded:
    with decoding(name):
        width, height = struct.unpack_from("<HH", data, 6)
    check_size(name, width, height, 4, limits)
    with pillow(name), GifImageFile(io.BytesIO(data)) as image:
        check_size(name, *image.size, 4, limits)  # a frame may reach beyond the declared screen
        key = image.info.get("transparency") if image.mode == "L" else None
        samples, icc, notes = samples_of(image, None, name)
        with contextlib.suppress(*DAMAGE):  # what follows the first frame is not ours to judge
            if image.is_animated:
                notes += ("the picture is animated; only its first frame is used",)
    return Decoded(samples if key is None else keyed(samples, (key,)), icc, lossy=True, notes=notes)


def _decode_jpeg(data: bytes, name: str, limits: Limits) -> Decoded:
    with pillow(name), JpegImageFile(io.BytesIO(data)) as image:
        check_size(name, *image.size, 4, limits)
        samples, icc, notes = samples_of(image, image.info.get("icc_profile"), name)
        return Decoded(samples, icc, image.info.get("exif"), True, notes=notes)


def _decode_bmp(data: bytes, name: str, limits: Limits) -> Decoded:
    with pillow(name), BmpImageFile(io.BytesIO(data)) as image:
        check_size(name, *image.size, 4, limits)
        samples, icc, notes = samples_of(image, None, name)
        return Decoded(samples, icc, notes=notes)


DECODERS: dict[str, Callable[[bytes, str, Limits], Decoded]] = {
    "PNG": _decode_png, "JPEG": _decode_jpeg, "WEBP": _decode_webp, "TIFF": _decode_tiff, "BMP": _decode_bmp, "GIF": _decode_gif,
}  # fmt: skip


def samples_of(image: Image.Image, icc: bytes | None, name: str) -> tuple[NDArray, bytes | None, tuple[str, ...]]:
    """Load a Pillow image: samples (H, W, C), the profile that fits them, notes. Raises as Pillow does, `BadInput` to refuse."""
    image.load()
    mode = image.mode
    if mode in ("L", "LA", "RGB", "RGBA") or mode.startswith("I;16"):
        samples = np.array(image)
        samples = samples[:, :, None] if samples.ndim == 2 else samples
        return samples.astype(samples.dtype.newbyteorder("="), copy=False), icc, ()
    if mode == "1":
        return np.array(image.convert("L"))[:, :, None], icc, ("1-bit pixels are used as 8-bit gray",)
    if mode in ("P", "PA"):
        clear = mode == "PA" or "transparency" in image.info or (image.palette is not None and image.palette.mode == "RGBA")
        return np.array(image.convert("RGBA" if clear else "RGB")), icc, (f"palette colours are used as {'RGBA' if clear else 'RGB'}",)
    if mode in ("La", "RGBa"):
        samples, notes = _unpremultiplied(np.array(image))
        return samples, icc, notes
    if mode == "CMYK":
        return _from_cmyk(image, icc)
    raise BadInput(f"{name}: has pixels of mode {mode}, which would lose precision or meaning; save it as 8- or 16-bit gray or RGB")


def _from_cmyk(image: Image.Image, icc: bytes | None) -> tuple[NDArray, bytes | None, tuple[str, ...]]:
    if icc:
        with contextlib.suppress(ImageCms.PyCMSError, *DAMAGE):
            srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
            intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
            turned = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), srgb, intent, "RGB", flags=flags)
            if turned is not None:
                undated = srgb.tobytes()[:24] + bytes(12) + srgb.tobytes()[36:]  # or the same picture gives other bytes every second
                return np.array(turned), undated, ("CMYK was converted to sRGB by its profile; the output is RGB",)
    return np.array(image.convert("RGB")), None, ("CMYK was converted to RGB without a usable profile; the output is RGB",)


def keyed(samples: NDArray, key: tuple[int, ...]) -> NDArray:
    """Add an alpha channel that is clear where a pixel has exactly the colour `key`."""
    clear = (samples == np.array(key)).all(axis=2, keepdims=True)
    return np.concatenate([samples, np.where(clear, 0, np.iinfo(samples.dtype).max).astype(samples.dtype)], axis=2)


def _unpremultiplied(samples: NDArray) -> tuple[NDArray, tuple[str, ...]]:
    """Divide premultiplied alpha out of the colours; exact where a pixel is opaque."""
    top = np.iinfo(samples.dtype).max
    alpha = samples[:, :, -1:]
    if (alpha == top).all():
        return samples, ()
    colours = np.divide(samples[:, :, :-1].astype(np.float64) * top, alpha, out=np.zeros(samples[:, :, :-1].shape), where=alpha > 0)
    straight = np.concatenate([colours.round().clip(0, top).astype(samples.dtype), alpha], axis=2)
    return straight, (PREMULTIPLIED,)
