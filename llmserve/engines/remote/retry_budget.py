"""How many requests may be sent a second time: a share of them, so that trouble is not doubled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 10.0
RESERVE: Final = 10
"""In each window, however few requests there are."""


class RetryBudget:
    """Counts requests and retries of the last seconds. Owned by the event loop."""

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._requests: deque[float] = deque()
        self._retries: deque[float] = deque()

    def request(self) -> None:
        """A request is sent for the first time."""
        self._requests.append(self._clock())
        self._forget()

    def take(self) -> bool:
        """Whether one may be sent again; counts it."""
        self._forget()
        reserve = RESERVE if self._share else 0
        if len(self._retries) >= reserve + self._share * len(self._requests):
            return False
        self._retries.append(self._clock())
        return True

    def _forget(self) -> None:
        since = self._clock() - WINDOW_SECONDS
        for moments in (self._requests, self._retries):
            while moments and moments[0] < since:
                moments.popleft()
