"""One process at a time in a folder."""

from pathlib import Path

from filelock import FileLock, Timeout

from inpaintkit.core.errors import NotWritable

LOCK = ".lock"


def taken(folder: Path, busy: str) -> FileLock:
    """The lock of a folder, which is made if need be; release it, or die: the system frees a dead owner's.

    Raises `NotWritable` with the cause `busy` when another process holds it, and when the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise NotWritable(f"{folder}: {busy}") from None
    except OSError as error:
        raise NotWritable(f"{folder}: {error.strerror}; choose a folder that can be written") from None
    return lock
