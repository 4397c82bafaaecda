"""A circuit breaker: an upstream that fails too often is left alone for a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 30.0
WINDOW_REQUESTS: Final = 32
LEAST_FAILURES: Final = 3
FAILED_SHARE: Final = 0.5
OPEN_SECONDS: Final = 5.0
MOST_OPEN_SECONDS: Final = 60.0


class Breaker:
    """Closed until `LEAST_FAILURES` of the last requests failed, and `FAILED_SHARE` of them. Then
    it is open, and twice as long each time in a row. After that it is half open: one request goes
    through, and closes it or opens it again. Owned by the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=WINDOW_REQUESTS)
        self._opened_at: float | None = None
        self._open_seconds = OPEN_SECONDS
        self._is_on_trial = False

    @property
    def is_open(self) -> bool:
        """Whether nothing gets through now."""
        return self._seconds_left > 0 or self._is_on_trial

    @property
    def is_closed(self) -> bool:
        """Whether everything gets through."""
        return self._opened_at is None

    @property
    def retry_after_seconds(self) -> float:
        """When something may get through again."""
        return max(0.0, self._seconds_left)

    def begin(self) -> bool:
        """A request goes through. Where the breaker is half open it is on trial, which is returned
        and has to be told at its end: no other goes through meanwhile."""
        is_trial = self._opened_at is not None
        self._is_on_trial = self._is_on_trial or is_trial
        return is_trial

    def succeeded(self, *, is_trial: bool) -> None:
        """A request is being answered."""
        if is_trial:
            self._opened_at, self._open_seconds, self._is_on_trial = None, OPEN_SECONDS, False
            self._outcomes.clear()
        if self._opened_at is None:
            self._outcomes.append((self._clock(), True))

    def failed(self, *, is_trial: bool) -> None:
        """A request came to nothing by the upstream's fault."""
        now = self._clock()
        if is_trial and self._opened_at is not None:
            self._open_seconds = min(MOST_OPEN_SECONDS, 2 * self._open_seconds)
            self._open(now)
            return
        if self._opened_at is not None:  # it began before the breaker opened
            return
        self._outcomes.append((now, False))
        recent = [is_well for at, is_well in self._outcomes if now - at < WINDOW_SECONDS]
        failures = recent.count(False)
        if failures >= LEAST_FAILURES and failures >= FAILED_SHARE * len(recent):
            self._open(now)

    def abandoned(self, *, is_trial: bool) -> None:
        """A request ended and says nothing of the upstream: its caller left, say."""
        if is_trial:
            self._is_on_trial = False

    def _open(self, now: float) -> None:
        self._opened_at, self._is_on_trial = now, False

    @property
    def _seconds_left(self) -> float:
        if self._opened_at is None:
            return 0.0
        return self._opened_at + self._open_seconds - self._clock()
