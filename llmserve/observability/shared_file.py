"""A file of lines that several processes append to and rotate. Knows nothing of the contents."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmserve.flock import wait_for_lock

LOCK_MODE: Final = 0o600
LOCK_SECONDS: Final = 2.0
"""Much longer than writing a batch, which takes milliseconds."""


class SharedFile:
    """Rotated to `.1` (older ones to `.2` and so on, `keep` of them) before it exceeds `max_bytes`.

    A writer holds a lock on a file beside it, so that no line is torn and none goes to a file that
    was just rotated away. Only this user may open the lock's file, as anyone who can may hold the
    lock. A process that is stopped while it holds the lock delays the others by `LOCK_SECONDS` at
    a time, so call this where waiting does no harm. Owned by one thread.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._descriptor: int | None = None

    def append(self, lines: deque[bytes]) -> None:
        """Write each line with one write, and remove it from the left of `lines` afterwards.

        Raises:
            OSError: the disk is full or fails, or another process holds the lock; what is left in
                `lines` was not written.
        """
        try:
            with self._lock():
                self._open_current()
                while lines:
                    self._append(lines[0])
                    lines.popleft()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _append(self, line: bytes) -> None:
        size = os.fstat(self._open_current()).st_size
        if size and size + len(line) > self._max_bytes:
            self._rotate()
            size = 0
        descriptor = self._open_current()
        written = os.write(descriptor, line)
        if written < len(line):  # the disk is full: half a line must not spoil the next one
            os.ftruncate(descriptor, size)
            raise OSError(f"{written} of {len(line)} bytes were written; is the disk full?")

    def _open_current(self) -> int:
        """Open the file that has the name now: another process may have rotated it meanwhile."""
        if self._descriptor is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
                    return self._descriptor
            self.close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        return self._descriptor

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._rotated(number).replace(self._rotated(number + 1))
        self._path.replace(self._rotated(1))

    def _rotated(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._path.with_name(self._path.name + ".lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(lock, flags, LOCK_MODE)
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) != LOCK_MODE:  # made by an older version
                os.fchmod(descriptor, LOCK_MODE)
            try:
                wait_for_lock(descriptor, LOCK_SECONDS)
            except TimeoutError:
                raise TimeoutError(
                    f"another process has held the lock on {lock} for {LOCK_SECONDS:.0f} s"
                ) from None
            yield
        finally:
            os.close(descriptor)
