"""How much memory a process may use."""

import os
from contextlib import suppress
from pathlib import Path

CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may use, in its two versions."""


def available() -> int:
    """Bytes of memory for this process: of this machine or the container it runs in, shared by the processes that a launcher
    started on it; where it cannot be told, more than any has."""
    limits = [1 << 62]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in CONTAINER:
        with suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    return min(limits) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
