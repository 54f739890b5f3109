"""TIFF at 16 bits, and the TIFF writer.

Pillow narrows 16-bit colour to 8 bits without a word, but reads 16-bit gray. TIFF compresses bytes, not pixels: a strip of
RGB pixels is, byte for byte, a strip of a gray picture three times as wide. So the tags are rewritten to say that, Pillow
and libtiff decode it (every lossless compression, bounded), and the horizontal differencing, which alone knows about
pixels, is undone here. Source: TIFF 6.0, sections 8 and 14.
"""

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
ORIENTATION, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, FORMAT, ICC = 274, 320, 322, 323, 324, 325, 338, 339, 34675
READ = (
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANAR, PREDICTOR,
    ORIENTATION, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, FORMAT, ICC,
)  # fmt: skip
NONE, LZW, ADOBE_DEFLATE, DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000
WHITE_IS_ZERO, BLACK_IS_ZERO, COLOUR = 0, 1, 2
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, COLOUR: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Channels before the extra ones, by photometric interpretation: gray, RGB, palette, CMYK, YCbCr, Lab."""
ASSOCIATED, UNASSOCIATED = 1, 2
ALPHAS = {ASSOCIATED, UNASSOCIATED}
STRIP_SIZE = 1 << 20
LEVEL = 4  # as in png.py


@dataclass(frozen=True)
class Header:
    """The first directory of a file."""

    tags: Mapping[int, Any]
    more_pages: bool

    def values(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        value = self.tags.get(tag, default)
        value = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(v, int) and v >= 0 for v in value):
            raise ValueError(f"tag {tag} holds no whole numbers")
        return value

    def number(self, tag: int, default: int) -> int:
        return (self.values(tag) or (default,))[0]

    @property
    def samples(self) -> int:
        return self.number(SAMPLES, 1)

    @property
    def bits(self) -> set[int]:
        return set(self.values(BITS, (1,))[: max(1, self.samples)])


def read_header(data: bytes) -> Header:
    """The tags of the first page. Raises what Pillow raises for a damaged directory."""
    file = io.BytesIO(data)
    tags = ImageFileDirectory_v2(file.read(16 if data[2:3] == b"\x2b" else 8))
    file.seek(tags.next)
    tags.load(file)
    return Header({tag: tags[tag] for tag in READ if tag in tags}, tags.next != 0)  # here, because Pillow parses and warns on access


def refusal(header: Header) -> str | None:
    """Why a page cannot be read without loss, or None. Pillow would drop channels it does not know without a word."""
    colours = COLOURS.get(header.number(PHOTOMETRIC, BLACK_IS_ZERO))
    extra = header.values(EXTRA)
    stated = SAMPLES in header.tags or 16 in header.bits  # JPEG inside TIFF may leave it out
    if stated and colours and (header.samples - colours != len(extra) or len(extra) > 1 or set(extra) - ALPHAS):
        return "has channels beside its colours that are not alpha; save it without them"
    if header.bits <= {1, 2, 4, 8} and set(header.values(FORMAT, (1,))) == {1}:
        return None
    if header.bits != {16} or set(header.values(FORMAT, (1,))) != {1}:
        return (
            f"has samples of {max(header.bits)} bits that are not whole numbers of 16 bits; save it with 8 or 16 bits, or pass a .npy array"
        )
    if header.number(PHOTOMETRIC, BLACK_IS_ZERO) not in (WHITE_IS_ZERO, BLACK_IS_ZERO, COLOUR):
        return "is neither gray nor RGB at 16 bits; save it as 16-bit RGB"
    if header.number(COMPRESSION, NONE) not in (NONE, LZW, ADOBE_DEFLATE, DEFLATE, PACKBITS, LZMA, ZSTD) or header.number(PREDICTOR, 1) > 2:
        return f"is compressed in a way not read at 16 bits (compression {header.number(COMPRESSION, NONE)}); save it with LZW or deflate"
    return None


def decode_16(data: bytes, header: Header) -> NDArray[np.uint16]:
    """The samples (H, W, C) of a page that `refusal` lets pass. Raises what Pillow raises for damaged data."""
    width, height, count = header.number(WIDTH, 0), header.number(HEIGHT, 0), header.samples
    if header.number(PLANAR, 1) == 2 and count > 1:
        out = np.stack([_gray_view(data, header, width, 1, (channel, count)) for channel in range(count)], axis=2)
        block_width = width  # libtiff undoes the differencing of separate planes itself
    else:
        out = _gray_view(data, header, width * count, count, (0, 1)).reshape(height, width, count)
        block_width = header.number(TILE_WIDTH, width)
        if header.number(PREDICTOR, 1) == 2 and header.number(COMPRESSION, NONE) not in (NONE, PACKBITS):
            for x in range(0, width, max(1, block_width)):
                block = out[:, x : x + block_width]
                np.cumsum(block, axis=1, dtype=np.uint16, out=block)
    if header.number(PHOTOMETRIC, BLACK_IS_ZERO) == WHITE_IS_ZERO:
        out[:, :, 0] = 65535 - out[:, :, 0]
    return out


def _gray_view(data: bytes, header: Header, width: int, widen: int, part: tuple[int, int]) -> NDArray[np.uint16]:
    """The data read as gray pixels, `widen` samples of a pixel side by side; `part` (i, n) takes the i-th of n planes."""
    tags = {WIDTH: (width,), HEIGHT: header.values(HEIGHT), BITS: (16,), PHOTOMETRIC: (BLACK_IS_ZERO,), SAMPLES: (1,), PLANAR: (1,)}
    tags |= {tag: header.values(tag) for tag in (COMPRESSION, FILL_ORDER, STRIP_ROWS, TILE_HEIGHT) if header.values(tag)}
    if TILE_WIDTH in header.tags:
        tags[TILE_WIDTH] = (header.number(TILE_WIDTH, 0) * widen,)
    if part[1] > 1 and header.number(PREDICTOR, 1) == 2:
        tags[PREDICTOR] = (2,)
    for tag in (STRIPS, STRIP_BYTES, TILES, TILE_BYTES):
        if values := header.values(tag):
            each = len(values) // part[1]
            tags[tag] = values[part[0] * each : (part[0] + 1) * each]
    order = "<" if data[:2] == b"II" else ">"
    start = len(data) + len(data) % 2
    head = data[:2] + struct.pack(f"{order}HL", 42, start)
    with TiffImageFile(io.BytesIO(b"".join([head, data[8:], bytes(len(data) % 2), _directory(tags, start, order)]))) as image:
        if image.size != (width, header.number(HEIGHT, 0)) or not image.mode.startswith("I;16"):
            raise ValueError("strips and size do not agree")
        image.load()
        return np.array(image, dtype=np.uint16)


def _directory(tags: dict[int, tuple[int, ...]], start: int, order: str) -> bytes:
    """A directory of LONG values, placed at offset `start`."""
    entries, outside = b"", b""
    outside_start = start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}L", *values)
        if len(values) > 1:
            outside, packed = outside + packed, struct.pack(f"{order}L", outside_start + len(outside))
        entries += struct.pack(f"{order}HHL", tag, 4, len(values)) + packed
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + outside


def encode(samples: NDArray, icc: bytes | None = None, exif: bytes | None = None) -> bytes:
    """A deflated TIFF file of `samples` (H, W, C) uint8 or uint16, C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA.

    Raises `OverflowError` when it would pass the 4 GiB of the format.
    """
    height, width, count = samples.shape
    differences = samples.astype(samples.dtype.newbyteorder("<"))
    differences[:, 1:] -= samples[:, :-1]
    rows = max(1, STRIP_SIZE // (width * count * samples.itemsize))
    strips = [zlib.compress(differences[y : y + rows].tobytes(), LEVEL) for y in range(0, height, rows)]
    lengths = [len(strip) for strip in strips]
    if sum(lengths) > 0xF000_0000:
        raise OverflowError("more than 4 GiB")
    directory = ImageFileDirectory_v2(ifh=b"II*\0\x08\0\0\0")
    for tag, value in _exif_tags(exif).items():
        directory[tag] = value
    directory[WIDTH], directory[HEIGHT], directory[SAMPLES] = width, height, count
    directory[BITS], directory[FORMAT] = (8 * samples.itemsize,) * count, (1,) * count
    directory[PHOTOMETRIC] = COLOUR if count > 2 else BLACK_IS_ZERO
    directory[COMPRESSION], directory[PREDICTOR], directory[PLANAR], directory[STRIP_ROWS] = ADOBE_DEFLATE, 2, 1, rows
    if count in (2, 4):
        directory[EXTRA] = UNASSOCIATED
    if icc:
        directory[ICC] = icc
    directory[STRIP_BYTES] = tuple(lengths)
    directory[STRIPS] = tuple(int(start) for start in np.cumsum([0, *lengths[:-1]]))  # Pillow adds the directory's end
    head = b"II*\0\x08\0\0\0"
    return b"".join([head, directory.tobytes(8), *strips])


def _exif_tags(exif: bytes | None) -> dict[int, Any]:
    """The values of an EXIF block; a directory inside it as a dict."""
    block = Image.Exif()
    block.load(exif or b"")
    return {tag: block.get_ifd(tag) if tag in (0x8769, 0x8825) else block[tag] for tag in block}
