"""Failures that come again and again are told once, and once more when they are over."""

from __future__ import annotations

import threading

from loguru import logger


class Trouble:
    """One thing that may fail for a while. Any thread may tell of it.

    `what` names it, as in "the series cannot be written"; `meanwhile` says what that means.
    """

    def __init__(self, what: str, meanwhile: str) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._is_on = False

    def begins(self, error: Exception) -> None:
        """It failed."""
        with self._lock:
            was_on, self._is_on = self._is_on, True
        if not was_on:
            logger.error("{}: {}; {}", self._what, error, self._meanwhile)

    def is_over(self) -> None:
        """It worked."""
        with self._lock:
            was_on, self._is_on = self._is_on, False
        if was_on:
            logger.info("no longer so: {}", self._what)
