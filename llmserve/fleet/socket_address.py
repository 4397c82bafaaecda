"""Addresses of Unix sockets, which hold at most 107 bytes while paths may be longer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 107
"""Length of `sun_path` on Linux, without the terminating zero."""
OPEN_FILES: Final = Path("/proc/self/fd")


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The address to bind or connect to for the socket at this path; valid inside the block.

    A path that is too long is reached through its directory's descriptor in /proc.

    Raises:
        OSError: the directory does not exist.
    """
    if len(os.fsencode(path)) <= MAX_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(OPEN_FILES / str(directory) / path.name)
    finally:
        os.close(directory)


def has_address(path: Path) -> bool:
    """Whether the path is short enough, or this system can reach a longer one."""
    return len(os.fsencode(path)) <= MAX_BYTES or OPEN_FILES.exists()
