"""Waiting, for a bounded time, for a lock on a file that another process holds."""

from __future__ import annotations

import fcntl
import time
from typing import Final

POLL_SECONDS: Final = 0.005


def wait_for_lock(descriptor: int, seconds: float, *, poll_seconds: float = POLL_SECONDS) -> None:
    """Take the exclusive `flock`; blocks.

    Raises:
        TimeoutError: another process still holds it after `seconds`.
        OSError: this file cannot be locked.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"a lock was not released within {seconds:g} s") from None
            time.sleep(poll_seconds)
        else:
            return
