"""The picture files in folders and WebDataset-style tars, listed first and read later, in the same order everywhere.

Listed is what a suffix of `SUFFIXES` names, in sub-folders too, but for hidden files and folders (macOS writes `._0.jpg`
beside `0.jpg`) and `LABELS`. Tars may be compressed; of one sample `0.jpg`, `0.json`, `0.cls` the picture is listed.
"""

import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from inpaintkit.core.errors import BadInput, InpaintError, OverLimit
from inpaintkit.data.decoding import one_line, printable
from inpaintkit.data.picture import Limits

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
LABELS = {"CelebAMask-HQ-mask-anno", "__MACOSX"}
"""Folders of pictures that are not photos: the 0/255 label pictures of CelebAMask-HQ, and what macOS adds to archives."""
TWICE = (("data_256", "data_large"), ("val_256", "val_large"), ("test_256", "test_large"))
"""Folders of Places365 that hold the same pictures at two sizes."""
TAR_DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error)


class Member(NamedTuple):
    """A picture file. Tuples order as the files are listed within one folder or tar."""

    path: Path
    """The folder or tar it is in."""
    place: int
    """How many are listed before it there."""
    name: str
    """Relative to `path`, with "/" between folders."""

    def __str__(self) -> str:
        text = f"{self.path}: {self.name}"
        return text if text.isprintable() else printable(text)


def members(path: Path, damaged: Callable[[str, str, str], None]) -> list[Member]:
    """The picture files in a folder, sorted, or in a tar, in its order.

    What cannot be listed goes to `damaged(file, cause, what to do)`, which raises or takes note. Raises `BadInput` for a
    path that is neither, and for a folder that holds the same pictures twice (`TWICE`).
    """
    if path.is_dir():
        found = _in_folder(path, damaged)
    elif path.is_file():
        found = []
        try:
            with tarfile.open(path) as tar:
                for member in tar:  # one by one: those before the damage count
                    if _is_picture(member):
                        found.append(member.name)
        except TAR_DAMAGE as error:
            damaged(printable(str(path)), f"not a complete tar ({one_line(error)})", "get it again")
    else:
        raise BadInput(f"{printable(str(path))}: no such folder or tar; check the path")
    return [Member(path, place, name) for place, name in enumerate(found)]


def contents(chosen: Sequence[Member], limits: Limits) -> Iterator[tuple[Member, Path | bytes | InpaintError]]:
    """Each member with its file, its bytes, or why they cannot be had; those of one folder or tar must stand together, sorted."""
    for path, group in groupby(chosen, lambda member: member.path):
        if path.is_dir():
            yield from ((member, path / member.name) for member in group)
        else:
            yield from _from_tar(path, list(group), limits)


def _in_folder(path: Path, damaged: Callable[[str, str, str], None]) -> list[str]:
    def unreadable(error: OSError) -> None:
        damaged(printable(str(error.filename)), f"cannot be listed ({one_line(error)})", "check its permissions")

    found: list[tuple[str, ...]] = []
    seen = {os.path.realpath(path)}  # links to folders are followed, once to each
    for folder, folders, files in os.walk(path, onerror=unreadable, followlinks=True):
        for one, other in TWICE:
            if one in folders and other in folders:
                where = printable(folder)
                raise BadInput(
                    f"{where}: holds the same pictures twice ({one} and {other}); name {Path(where, one)} or {Path(where, other)}"
                )
        inner = {os.path.realpath(os.path.join(folder, name)): name for name in sorted(folders, reverse=True) if _is_wanted(name)}
        folders[:] = [name for real, name in inner.items() if real not in seen]
        seen |= inner.keys()
        within = Path(folder).relative_to(path).parts
        found += [(*within, name) for name in files if _suffixed(name) and not name.startswith(".")]
    return ["/".join(parts) for parts in sorted(found)]


def _is_wanted(folder: str) -> bool:
    return not folder.startswith(".") and folder not in LABELS


def _suffixed(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _is_picture(member: tarfile.TarInfo) -> bool:
    parts = [part for part in PurePosixPath(member.name).parts if part != ".."]
    return member.isfile() and _suffixed(member.name) and not any(part.startswith(".") or part in LABELS for part in parts)


def _from_tar(path: Path, group: list[Member], limits: Limits) -> Iterator[tuple[Member, bytes | InpaintError]]:
    left = group[::-1]
    try:
        with tarfile.open(path) as tar:
            for place, info in enumerate(member for member in tar if _is_picture(member)):
                if left and left[-1].place == place:
                    yield left.pop(), _bytes(tar, info, limits)
                if not left:
                    return
    except TAR_DAMAGE as error:
        yield from ((member, BadInput(f"its tar cannot be read on ({one_line(error)})")) for member in left[::-1])
    else:
        yield from ((member, BadInput("its tar was cut while it was read")) for member in left[::-1])


def _bytes(tar: tarfile.TarFile, info: tarfile.TarInfo, limits: Limits) -> bytes | InpaintError:
    if info.size > limits.max_bytes:
        return OverLimit(f"has {info.size:,} bytes, more than the limit of {limits.max_bytes:,}")
    try:
        file = tar.extractfile(info)
        return b"" if file is None else file.read()
    except TAR_DAMAGE as error:
        return BadInput(f"cannot be read ({one_line(error)})")
