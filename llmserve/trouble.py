"""A failure that repeats is logged once when it begins, and once when it is over."""

from __future__ import annotations

import threading

from loguru import logger


class Trouble:
    """One operation that may fail for a while. May be called from any thread.

    `what` names the failure, as in "the series cannot be written"; `meanwhile` its consequence.
    """

    def __init__(self, what: str, meanwhile: str) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._is_on = False

    def begins(self, error: Exception) -> None:
        """The operation failed."""
        with self._lock:
            was_on, self._is_on = self._is_on, True
        if not was_on:
            logger.error("{}: {}; {}", self._what, error, self._meanwhile)

    def is_over(self) -> None:
        """The operation succeeded."""
        with self._lock:
            was_on, self._is_on = self._is_on, False
        if was_on:
            logger.info("resolved: {}", self._what)
