"""Files in memory that other processes read. Their room on the disk is taken before they are
mapped: writing to a mapped page for which a full disk has no room kills the process (SIGBUS).
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from typing import Final

UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


def map_file(descriptor: int, num_bytes: int) -> mmap.mmap:
    """The first bytes of a file, which is made so long if it is shorter; new ones are zero.

    Raises:
        OSError: there is no room for them.
    """
    if not _allocate(descriptor, num_bytes) and os.fstat(descriptor).st_size < num_bytes:
        os.ftruncate(descriptor, num_bytes)
    return mmap.mmap(descriptor, num_bytes)


def nameless_file(name: str) -> int:
    """The descriptor of an empty file that lies in no folder and that nothing can remove."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _allocate(descriptor: int, num_bytes: int) -> bool:
    """Whether this system, and the file's, can do that."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True
