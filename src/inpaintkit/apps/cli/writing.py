"""Where results go: every refusal comes before any work is done."""

import io
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from inpaintkit.core.errors import BadInput, NotWritable
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


def check_mask_name(path: Path) -> None:
    """Raise `BadInput` unless a mask can be written under this name."""
    if path.suffix.lower() not in (".png", ".npy"):
        raise BadInput(f"{path}: a mask is written as .png or .npy")


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
