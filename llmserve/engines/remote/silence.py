"""Ends work that hears nothing for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from llmserve.timer import EARLY_SECONDS, Timer


class Silence:
    """A context around a stream: it raises `TimeoutError` in it when `limit_seconds` have passed
    since the last `heard`.

    A stream has thousands of pieces: hearing one costs no timer. Owned by the event loop.
    """

    def __init__(self, limit_seconds: float, clock: Callable[[], float]) -> None:
        self._limit = limit_seconds
        self._clock = clock
        self._heard_at = clock()
        self._scope = asyncio.timeout(None)
        self._timer: Timer | None = None

    def heard(self, limit_seconds: float) -> None:
        """Something came; from now on the limit is this one."""
        self._heard_at = self._clock()
        if limit_seconds < self._limit and self._timer is not None:
            self._limit = limit_seconds
            self._timer.cancel()
            self._arm()
        self._limit = limit_seconds

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._heard_at = self._clock()
        self._arm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def _arm(self) -> None:
        left = self._heard_at + self._limit - self._clock()
        self._timer = Timer(max(0.0, left), self._look, self._clock)

    def _look(self) -> None:
        if self._clock() - self._heard_at < self._limit - EARLY_SECONDS:
            self._arm()
        else:
            self._scope.reschedule(asyncio.get_running_loop().time())
