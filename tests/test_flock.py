"""Waiting for a lock that another process may keep."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from llmserve.flock import wait_for_lock


def test_a_lock_that_is_kept_is_waited_for_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as other, path.open("w") as own:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            wait_for_lock(own.fileno(), 0.01, poll_seconds=0.001)
        fcntl.flock(other, fcntl.LOCK_UN)
        wait_for_lock(own.fileno(), 0.0)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
