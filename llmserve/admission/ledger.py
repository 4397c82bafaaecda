"""Stores tabs in this process, or in small files that all workers of a box share."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from llmserve.admission.tab import Tab
from llmserve.flock import wait_for_lock

LOCK_SECONDS: Final = 1.0
"""A lock is held for about 10 µs; one held longer belongs to a process that was stopped."""

LOCK_POLL_SECONDS: Final = 0.0001

T = TypeVar("T")
Change = Callable[[Tab], T]


class Ledger(Protocol):
    """Tabs by caller name."""

    def update(self, name: str, change: Change[T]) -> T:
        """Run `change` on a caller's tab exclusively, and store the changed tab.

        If `change` raises, the exception is passed on and the tab stays as it was.

        Raises:
            OSError: the tab cannot be read or written, or stays locked.
        """


class PrivateLedger:
    """For this process only."""

    def __init__(self) -> None:
        self._tabs: dict[str, bytes] = {}

    def update(self, name: str, change: Change[T]) -> T:
        tab = Tab.from_bytes(self._tabs.get(name, b""))
        result = change(tab)
        self._tabs[name] = tab.to_bytes()
        return result


class SharedLedger:
    """One file per caller in a directory, named by a hash: not every name is a valid file name.

    A file is opened for each update: no descriptors are held for a thousand callers, and none
    is shared with a forked process, which would then share the lock as well. The kernel releases
    the lock of a process that dies.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._paths: dict[str, str] = {}

    def update(self, name: str, change: Change[T]) -> T:
        descriptor = self._open(name)
        try:
            wait_for_lock(descriptor, LOCK_SECONDS, poll_seconds=LOCK_POLL_SECONDS)
            before = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            tab = Tab.from_bytes(before)
            result = change(tab)
            after = tab.to_bytes()
            if after != before:
                _write(descriptor, before, after)
            return result
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        path = self._paths.get(name)
        if path is None:
            file = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
            path = self._paths[name] = str(self._directory / file)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)


def _write(descriptor: int, before: bytes, after: bytes) -> None:
    """Write all of it or, if the disk is full, nothing."""
    written = os.pwrite(descriptor, after, 0)
    if written < len(after):
        os.pwrite(descriptor, before, 0)
        raise OSError(errno.ENOSPC, f"{written} of {len(after)} bytes were written")
