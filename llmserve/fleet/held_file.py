"""A file or directory that a process holds open, even if it is renamed or removed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class HeldFile:
    """An open file; none until `open`."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def open(self, path: Path, flags: int) -> None:
        """Open this file and close the one that was held before.

        Raises:
            OSError: it cannot be opened; nothing is held.
        """
        self.close()
        self._descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)

    def take_over(self, other: HeldFile) -> None:
        """Take the other's file; the descriptor keeps its number and is never closed meanwhile."""
        assert other._descriptor is not None, "nothing is held"
        if self._descriptor is None:
            self._descriptor, other._descriptor = other._descriptor, None
        else:
            os.dup2(other._descriptor, self._descriptor, inheritable=False)
            other.close()

    @property
    def descriptor(self) -> int | None:
        """The file descriptor; `None` while nothing is held."""
        return self._descriptor

    @property
    def user(self) -> int:
        """The id of the user who owns the file."""
        assert self._descriptor is not None, "nothing is held"
        return os.fstat(self._descriptor).st_uid

    def is_at(self, path: Path) -> bool:
        """Whether this path leads to the file that is held."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(path.lstat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def lock(self, how: int) -> bool:
        """Take the lock, `LOCK_SH` or `LOCK_EX`, without waiting; whether it was free.

        Raises:
            OSError: this file system has no locks.
        """
        assert self._descriptor is not None, "nothing is held"
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Close the file; doing it twice is harmless."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
