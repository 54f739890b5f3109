"""Reading a picture from hostile bytes or from memory, and making it upright.

The kind is decided by content from an allow-list; `formats.py` states what becomes of each kind of pixel.
"""

import io
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintkit.core.errors import BadInput, OverLimit
from inpaintkit.data import png
from inpaintkit.data.decoding import DAMAGE, decoding, one_line, pillow, printable, settled
from inpaintkit.data.formats import DECODERS, keyed, samples_of
from inpaintkit.data.picture import LIMITS, Limits, Picture, from_array

KEPT_EXIF = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 0x8769, 0x8825}
"""Description, make, model, resolution, software, date, artist, copyright, the Exif and GPS directories."""
ORIENTATION, EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP, MAKER_NOTE = 274, 0x8769, 0x8825, 0xA005, 0x927C


def read_picture(source: str | Path | bytes, limits: Limits = LIMITS, name: str | None = None) -> Picture:
    """Read a picture file, or its bytes: PNG, JPEG, WebP, TIFF, BMP, the first frame of a GIF, or a .npy array.

    The kind is decided by content, whatever the suffix. Raises `BadInput` when the file is missing, of another kind,
    truncated, damaged or would be narrowed, and `OverLimit` when its header declares more than `limits`.
    """
    data, name = read_bytes(source, limits, name)
    kind = kind_of(data)
    if kind == "NPY":
        return replace(from_array(read_npy(data, name), name), format="NPY")
    if kind is None:
        raise BadInput(f"{name}: holds no picture of a kind read here (PNG, JPEG, WebP, TIFF, BMP, GIF); convert it to PNG")
    decoded = DECODERS[kind](data, name, limits)
    orientation, exif, exif_notes = _upright_exif(decoded.exif)
    turn = TURNED.get(decoded.orientation or orientation, TURNED[1])
    return replace(
        split(np.ascontiguousarray(turn(decoded.samples))), icc=decoded.icc, exif=exif, format=kind, lossy=decoded.lossy, name=name,
        notes=decoded.notes + exif_notes, png_chunks=decoded.png_chunks,
    )  # fmt: skip


def from_pil(image: Image.Image, name: str = "image") -> Picture:
    """A picture from a Pillow image, by the same rule as a file, but not turned: it keeps the size the caller sees.

    Raises `BadInput` for modes that would be narrowed, among them an unread 16-bit colour file: Pillow reads 8 bits of it.
    """
    tiles = getattr(image, "tile", ())
    if not image.mode.startswith("I;16") and any(";16" in str(tile[3]) for tile in tiles):
        raise BadInput(f"{name}: Pillow would read this 16-bit picture with 8 bits; pass the path of the file instead")
    key = image.info.get("transparency") if image.mode in ("L", "RGB") else None
    with pillow(name):
        samples, icc, notes = samples_of(image, image.info.get("icc_profile"), name)
        if key is not None:
            samples = keyed(samples, (key,) if isinstance(key, int) else key)
    _, exif, exif_notes = _upright_exif(image.info.get("exif"))
    return replace(split(samples), icc=icc, exif=exif, format="PIL", name=name, notes=notes + exif_notes)


def read_bytes(source: str | Path | bytes, limits: Limits = LIMITS, name: str | None = None) -> tuple[bytes, str]:
    """The bytes of a regular file and its printable name. Raises `BadInput` and `OverLimit`."""
    if isinstance(source, bytes):
        data, size, name = source, len(source), printable(name or "picture")
    else:
        name = printable(name or str(source))
        try:
            with open(source, "rb", opener=lambda path, flags: os.open(path, flags | getattr(os, "O_NONBLOCK", 0))) as file:
                status = os.fstat(file.fileno())  # a pipe or device is refused without waiting for its other end
                if not stat.S_ISREG(status.st_mode):
                    raise BadInput(f"{name}: is not a regular file; name a picture file")
                size = status.st_size
                data = file.read(size) if size <= limits.max_bytes else b""
        except FileNotFoundError:
            raise BadInput(f"{name}: no such file; check the path") from None
        except IsADirectoryError:
            raise BadInput(f"{name}: is a folder; name a picture file") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise BadInput(f"{name}: cannot be read ({one_line(error)}); check the path and its permissions") from None
    if size > limits.max_bytes:
        raise OverLimit(f"{name}: has {size:,} bytes, more than the limit of {limits.max_bytes:,}; pass --max-bytes {size} to allow it")
    if not data:
        raise BadInput(f"{name}: is empty (0 bytes); choose another file")
    return data, name


def kind_of(data: bytes) -> str | None:
    """The kind of a file by its first bytes: "PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "NPY", or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    signatures = {
        png.SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF",
        b"GIF87a": "GIF", b"GIF89a": "GIF", b"\x93NUMPY": "NPY", b"BM": "BMP",
    }  # fmt: skip
    return next((kind for signature, kind in signatures.items() if data.startswith(signature)), None)


def split(samples: NDArray) -> Picture:
    """Samples (H, W, C) as a picture; with 2 or 4 channels the last is alpha."""
    if samples.shape[2] in (1, 3):
        return Picture(samples)
    return Picture(np.ascontiguousarray(samples[:, :, :-1]), np.ascontiguousarray(samples[:, :, -1]))


def _upright_exif(data: bytes | None) -> tuple[int, bytes | None, tuple[str, ...]]:
    """The orientation (1 to 8) of an EXIF block or TIFF file, and the block without it. A damaged block is dropped and noted."""
    if not data:
        return 1, None, ()
    orientation = 1
    try:
        with settled():
            block, kept = Image.Exif(), Image.Exif()
            block.load(data)
            found = block.get(ORIENTATION, 1)
            orientation = found if isinstance(found, int) and found in TURNED else 1
            for tag in KEPT_EXIF & set(block):
                kept[tag] = block[tag]
                if tag in (EXIF_DIRECTORY, GPS_DIRECTORY):
                    kept[tag] = {inner: value for inner, value in block.get_ifd(tag).items() if inner not in (INTEROP, MAKER_NOTE)}
            return orientation, kept.tobytes() if kept else None, ()
    except DAMAGE:
        return orientation, None, ("the EXIF block is damaged and was dropped",)


TURNED: dict[int, Callable[[NDArray], NDArray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""How an array (H, W, C) becomes upright, by EXIF orientation."""


def read_npy(data: bytes, name: str) -> NDArray:
    """The array in the bytes of a .npy file; its header is compared with the bytes there are before anything is allocated.

    Raises `BadInput`: objects (they execute code), structures, text, or a size the file does not have.
    """
    stream = io.BytesIO(data)
    with decoding(name):
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f".npy version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=10_000)
    if dtype.hasobject or dtype.kind not in "buif":
        raise BadInput(f"{name}: holds {dtype} values; save bool, integer or float numbers")
    needed, there = prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if min(shape, default=1) < 0 or needed != there:
        raise BadInput(f"{name}: its header declares {needed:,} bytes of values and the file holds {there:,}; save it again")
    values = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(values.astype(dtype.newbyteorder("=")))
