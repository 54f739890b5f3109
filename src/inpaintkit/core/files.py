"""Complete-or-absent writing: a reader sees the old file or the whole new one, never a part."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from inpaintkit.core.errors import NotWritable


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise `NotWritable` when `path` exists and may not be replaced, or its folder does not exist."""
    if path.is_dir():
        raise NotWritable(f"{path}: is a folder; name a file")
    if path.exists() and not overwrite:
        raise NotWritable(f"{path}: exists already; pass --overwrite or another output name")
    if not path.parent.is_dir():
        cause = "is a file, no folder; name another one" if path.parent.exists() else "does not exist; create it first"
        raise NotWritable(f"{path}: the folder {path.parent} {cause}")


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` only when the block ends without an error.

    The temporary file lies in the same folder, so the rename is atomic; file and folder are flushed to disk.
    Raises `NotWritable` when the system refuses.
    """
    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise NotWritable(f"{path}: {error.strerror or error}; choose a folder that can be written") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, complete or not at all."""
    with room(Path(path).parent, lambda: len(data)), writing(path) as file:
        file.write(data)


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` only when the block ends without an error.

    It lies beside `path`, so the rename is atomic. Raises `NotWritable` when `path` exists or the system refuses.
    """
    path = Path(path)
    refuse_folder(path)
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.rename(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise NotWritable(f"{path}: {error.strerror or error}; choose a folder that can be written") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block ends without an error; the one that was there is removed.

    Should the process die between the two renames, `clean` does the second one.
    """
    with writing_folder(_new(path)) as temporary:
        yield temporary
    _swap(path)


def clean(folder: Path, replaced: Sequence[str] = ()) -> None:
    """Finish what processes that died left in a folder: temporary files and folders go, and complete new ones take the place of
    the folders named in `replaced`. For folders that only one process writes to.
    """
    for path in folder.iterdir():
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}\.part", path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (folder / name for name in replaced):
        if _new(path).exists():
            _swap(path)
        elif _old(path).exists():
            shutil.rmtree(_old(path))


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _swap(path: Path) -> None:
    old = _old(path)
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.rename(path, old)
    os.rename(_new(path), path)
    _sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def room(folder: Path, needed: Callable[[], int]) -> Iterator[None]:
    """A full disk or quota inside becomes one line: `NotWritable`, naming the folder and the bytes needed (counted only then)."""
    try:
        yield
    except (NotWritable, OSError) as error:
        cause = error.__cause__ if isinstance(error, NotWritable) else error
        if not isinstance(cause, OSError) or cause.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(folder).free
        what = f"{cause.strerror}: {needed():,} bytes are needed, {free:,} are free"
        raise NotWritable(f"{folder}: {what}; make room and repeat, what was complete before is intact") from error


def refuse_folder(path: Path) -> None:
    """Raise `NotWritable` when `path` exists, or the folder it would lie in does not."""
    if path.exists() or path.is_symlink():
        raise NotWritable(f"{path}: exists already; name a new folder")
    if not path.absolute().parent.is_dir():
        raise NotWritable(f"{path}: the folder {path.parent} does not exist; create it first")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
