"""Memory-mapped files that other processes read. Their disk space is allocated before they are
mapped: writing to a mapped page for which a full disk has no space kills the process (SIGBUS).
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from typing import Final

UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


def map_file(descriptor: int, num_bytes: int) -> mmap.mmap:
    """Map the first bytes of a file, which is extended with zeros if it is shorter.

    Raises:
        OSError: the disk is full.
    """
    if not _allocate(descriptor, num_bytes) and os.fstat(descriptor).st_size < num_bytes:
        os.ftruncate(descriptor, num_bytes)
    return mmap.mmap(descriptor, num_bytes)


def nameless_file(name: str) -> int:
    """The descriptor of an empty file that is in no folder, so that nothing can remove it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _allocate(descriptor: int, num_bytes: int) -> bool:
    """Allocate disk space; whether this platform and file system support that."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True
