"""Writing a picture: the format by the suffix, everything the picture has or a refusal, complete or not at all."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.files import refuse_existing, write_bytes
from inpaintkit.data import png, tiff
from inpaintkit.data.decoding import DAMAGE, one_line, printable
from inpaintkit.data.picture import Picture


@dataclass(frozen=True)
class Holds:
    """What a format can hold."""

    depths: tuple[str, ...] = ("uint8",)
    alpha: bool = False
    colour: bool = True
    icc: bool = True
    exif: bool = True
    side: int = 1 << 30


FORMATS = {
    "PNG": Holds(("uint8", "uint16"), alpha=True),
    "TIFF": Holds(("uint8", "uint16"), alpha=True),
    "WEBP": Holds(alpha=True, side=16383),
    "JPEG": Holds(side=65535),
    "BMP": Holds(icc=False, exif=False),
    "GIF": Holds(colour=False, icc=False, exif=False, side=65535),
    "NPY": Holds(("uint8", "uint16", "float16", "float32", "float64"), alpha=True, exif=False, icc=False),
}
SUFFIXES = {
    ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG",
    ".bmp": "BMP", ".gif": "GIF", ".npy": "NPY",
}  # fmt: skip


def default_output(path: Path, picture: Picture, tag: str = "filled") -> Path:
    """`<stem>.<tag>.<ext>` beside `path`: its own suffix where that format keeps every pixel, `.png` otherwise.

    So JPEG, lossy WebP and GIF become PNG, and a suffix that contradicts the content is corrected.
    """
    path = Path(path)
    wanted = SUFFIXES.get(path.suffix.lower())
    if picture.lossy or picture.format not in FORMATS:
        suffix = ".png"
    elif wanted == picture.format:
        suffix = path.suffix
    else:
        suffix = next(suffix for suffix, kind in SUFFIXES.items() if kind == picture.format)
    return path.with_name(f"{path.stem}.{tag}{suffix if _obstacle(picture, SUFFIXES[suffix.lower()]) is None else '.png'}")


def check_output(picture: Picture, path: Path, overwrite: bool = False) -> str:
    """The format of `path`. Refuses, before any work is done, what `write_picture` would refuse after it.

    Raises `NotWritable` for an existing file or missing folder, `UsageError` for a suffix that is unknown, and `BadInput` for
    one whose format cannot hold the picture.
    """
    path = Path(path)
    name = printable(str(path))
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{name}: the suffix {path.suffix or '(none)'!r} names no format written here; use one of {' '.join(SUFFIXES)}")
    if obstacle := _obstacle(picture, kind):
        raise BadInput(f"{name}: {obstacle}")
    refuse_existing(path, overwrite)
    return kind


def write_picture(picture: Picture, path: Path, overwrite: bool = False, quality: int = 95) -> tuple[str, ...]:
    """Write `picture` to `path`, complete or not at all, keeping depth, alpha, colour profile and EXIF.

    The suffix names the format. WebP is written lossless; `quality` (1-100) is for JPEG alone, the one lossy format.
    Returns notes: what was lost that has no effect on the pixels, and that JPEG changes every pixel a little.
    Raises as `check_output`, and `UsageError` for a quality out of bounds; nothing is ever narrowed to fit.
    """
    path = Path(path)
    kind = check_output(picture, path, overwrite)
    if not 1 <= quality <= 100:
        raise UsageError(f"quality = {quality}: is not from 1 to 100")
    notes = ["JPEG is lossy: pixels outside the hole change a little"] if kind == "JPEG" else []
    if kind == "WEBP" and picture.pixels.shape[2] == 1:
        notes.append("WebP has no gray: the same values are stored three times")
    if kind == "NPY" and picture.icc:
        notes.append("the colour profile was dropped: an array cannot hold it")
    exif = picture.exif
    if exif and (not FORMATS[kind].exif or (kind == "JPEG" and len(exif) > 65533)):
        exif = None
        notes.append(f"EXIF was dropped: {kind} cannot hold it")
    try:
        data = _encode(picture, kind, quality, exif)
    except DAMAGE as error:
        raise BadInput(f"{printable(str(path))}: {kind} cannot hold this picture ({one_line(error)}); write a .png file") from error
    write_bytes(path, data)
    return tuple(notes)


def encode_png(array: NDArray) -> bytes:
    """A PNG file of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16, for sheets and previews."""
    samples = np.asarray(array)
    return png.encode(samples[:, :, None] if samples.ndim == 2 else samples)


def stacked(picture: Picture) -> NDArray:
    """The samples (H, W, C) with alpha as the last channel."""
    return picture.pixels if picture.alpha is None else np.concatenate([picture.pixels, picture.alpha[:, :, None]], axis=2)


def _obstacle(picture: Picture, kind: str) -> str | None:
    """Why a format cannot hold a picture and what to do, or None."""
    holds, depth = FORMATS[kind], picture.pixels.dtype.name
    fits = " or ".join(f".{name.lower()}" for name in ("PNG", "TIFF") if depth in FORMATS[name].depths) or ".npy"
    if depth not in holds.depths:
        samples = "float" if picture.pixels.dtype.kind == "f" else "16-bit"
        return f"a {kind} file cannot hold {samples} samples; write {fits}, or convert the picture first"
    if picture.alpha is not None and not holds.alpha:
        return f"a {kind} file cannot hold alpha; write {fits}, or remove the alpha channel first"
    if picture.pixels.shape[2] == 3 and not holds.colour:
        return f"a {kind} file cannot hold RGB without losing colours; write {fits}"
    if picture.icc and not holds.icc and kind != "NPY":
        return f"a {kind} file cannot hold the colour profile, and its colours would change; write {fits}"
    if max(picture.size) > holds.side:
        return f"a {kind} file has at most {holds.side} pixels a side, and this is {picture.size[0]}x{picture.size[1]}; write {fits}"
    return None


def _encode(picture: Picture, kind: str, quality: int, exif: bytes | None) -> bytes:
    samples = stacked(picture)
    if kind == "PNG":
        return png.encode(samples, picture.icc, exif, picture.png_chunks)
    if kind == "TIFF":
        return tiff.encode(samples, picture.icc, exif)
    out = io.BytesIO()
    if kind == "NPY":
        np.lib.format.write_array(out, samples[:, :, 0] if samples.shape[2] == 1 else samples, allow_pickle=False)
        return out.getvalue()
    options: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True, "exact": True, "icc_profile": picture.icc or b"", "exif": exif or b""},
        "JPEG": {"quality": quality, "subsampling": 0, "icc_profile": picture.icc, "exif": exif or b""},
        "BMP": {},
        "GIF": {"optimize": False},
    }
    to_pil(samples).save(out, kind, **options[kind])
    return out.getvalue()


def to_pil(samples: NDArray) -> Image.Image:
    """uint8 samples (H, W, 1 to 4), or uint16 (H, W, 1), as a Pillow image."""
    return Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
