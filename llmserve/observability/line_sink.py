"""A stream that whole lines are written to, by any thread."""

from __future__ import annotations

import threading
from typing import TextIO


class LineSink:
    """No line is ever within another one."""

    def __init__(self, target: TextIO) -> None:
        self._target = target
        self._lock = threading.RLock()  # a signal's handler may log, too

    def write(self, line: str) -> None:
        """Write a line, without its end, and see it out."""
        with self._lock:
            self._target.write(f"{line}\n")
            self._target.flush()
