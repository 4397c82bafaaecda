"""Addresses of Unix sockets: a path may be long, an address has room for 107 bytes of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 107
"""Of `sun_path` on Linux, without the zero at its end."""
OPEN_FILES: Final = Path("/proc/self/fd")


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """What to bind or connect to for the socket of this path, valid while inside.

    A long path is named by its open directory.

    Raises:
        OSError: the directory is not there.
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
    """Whether this system has an address for the path."""
    return len(os.fsencode(path)) <= MAX_BYTES or OPEN_FILES.exists()
