"""A file or directory that a process holds open, whatever becomes of its name."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class HeldFile:
    """Holds nothing until `open`."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def open(self, path: Path, flags: int) -> None:
        """Hold this one, instead of what was held before.

        Raises:
            OSError: it cannot be opened; nothing is held.
        """
        self.close()
        self._descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)

    def take_over(self, other: HeldFile) -> None:
        """Hold what the other one holds, which lets go of it; a descriptor that was held before
        keeps its number, and has no moment in between in which it is closed."""
        assert other._descriptor is not None, "nothing is held"
        if self._descriptor is None:
            self._descriptor, other._descriptor = other._descriptor, None
        else:
            os.dup2(other._descriptor, self._descriptor, inheritable=False)
            other.close()

    @property
    def descriptor(self) -> int | None:
        """Its number, `None` while nothing is held."""
        return self._descriptor

    @property
    def user(self) -> int:
        """Whose it is."""
        assert self._descriptor is not None, "nothing is held"
        return os.fstat(self._descriptor).st_uid

    def is_at(self, path: Path) -> bool:
        """Whether what is held is what has this name now."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(path.lstat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def lock(self, how: int) -> bool:
        """Take the lock, `LOCK_SH` or `LOCK_EX`; whether it was to be had.

        Raises:
            OSError: this file system has none.
        """
        assert self._descriptor is not None, "nothing is held"
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go of it; doing it twice is harmless."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
