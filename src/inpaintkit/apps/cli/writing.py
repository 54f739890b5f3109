"""Where results go: every refusal comes before any work is done."""

import io
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from inpaintkit.core.errors import NotWritable, UsageError
from inpaintkit.core.files import refuse_existing, write_bytes
from inpaintkit.data.images import Hole, encode_png


def check_writable(path: Path, overwrite: bool, inputs: Iterable[Path | None] = ()) -> None:
    """Raise `NotWritable` when `path` is an input, exists already, or its folder does not take files."""
    if any(source is not None and _same(path, source) for source in inputs):
        raise NotWritable(f"{path}: is an input, and inputs are never replaced; name another output")
    refuse_existing(path, overwrite)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise NotWritable(f"{path}: {error.strerror or error}; choose a folder that can be written") from None


def check_distinct(paths: Iterable[Path]) -> None:
    """Raise `NotWritable` when two outputs have one name."""
    seen: set[str] = set()
    for path in paths:
        if (where := os.path.realpath(path)) in seen:
            raise NotWritable(f"{path}: is named for two outputs; give each its own name")
        seen.add(where)


def check_suffix(path: Path | None, *suffixes: str) -> None:
    """Raise `UsageError` unless an output, if it is asked for, is named as what is written there."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: is written as {' or '.join(suffixes)}; name it so")


@contextmanager
def together(paths: Iterable[Path | None]) -> Iterator[None]:
    """Outputs of one run are all there or none is: when the block fails, those that were not there before are removed."""
    fresh = [path for path in paths if path is not None and not path.exists()]
    try:
        yield
    except BaseException:
        for path in fresh:
            path.unlink(missing_ok=True)
        raise


def write_mask(path: Path, hole: Hole) -> None:
    """White = hole in a .png file, True = hole in a .npy file."""
    if path.suffix.lower() == ".npy":
        np.save(out := io.BytesIO(), hole)
        data = out.getvalue()
    else:
        data = encode_png(hole.astype(np.uint8) * 255)
    write_bytes(path, data)


def note(text: str, quiet: bool) -> None:
    """A remark for the user, on stderr."""
    if not quiet:
        print(f"note: {text}", file=sys.stderr, flush=True)


def _same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other) or (path.exists() and other.exists() and path.samefile(other))
