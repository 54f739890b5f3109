"""The walls around other people's decoders: what they raise becomes one line, what they print goes nowhere."""

import contextlib
import os
import struct
import threading
import tokenize
import warnings
import zlib
from collections.abc import Iterator

from PIL import Image, ImageFile

from inpaintkit.core.errors import BadInput, OverLimit

DAMAGE = (
    OSError, SyntaxError, ValueError, NotImplementedError, OverflowError, EOFError, LookupError, TypeError, AttributeError,
    ArithmeticError, AssertionError, RuntimeError, struct.error, zlib.error, tokenize.TokenError,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
"""All that a decoder was seen to raise for hostile bytes. Only decoding stands inside `decoding`, so no fault of ours hides here."""


def printable(name: str) -> str:
    """A file name that stays on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def one_line(error: BaseException) -> str:
    """The message of an error of another library on one line."""
    text = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(text.split()))[:160]


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Whatever a decoder raises inside becomes one line about the file."""
    try:
        yield
    except MemoryError:
        raise OverLimit(f"{name}: does not fit into memory; make the picture smaller or free memory") from None
    except DAMAGE as error:
        raise BadInput(
            f"{name}: truncated, damaged or not supported ({one_line(error)}); open it in an editor and save it again as PNG"
        ) from None


_pillow_lock = threading.Lock()


@contextlib.contextmanager
def pillow(name: str) -> Iterator[None]:
    """Decode with Pillow: its settings as they must be, its errors as one line."""
    with decoding(name), settled():
        yield


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Pillow's settings for decoding, whatever the process has set.

    Sizes were checked against our own limits, so Pillow's global one is off; truncated files are never filled up; warnings
    go nowhere. These are settings of the process: hence the lock.
    """
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """Send what libtiff prints to file descriptor 2 nowhere. Only inside `pillow`, whose lock keeps threads from crossing here."""
    try:
        kept = os.dup(2)
    except OSError:  # closed, as in a windowed program
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
