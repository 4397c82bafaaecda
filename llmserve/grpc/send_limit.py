"""Ends a stream whose client takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

from llmserve.clock import awake_clock
from llmserve.timer import EARLY_SECONDS, Timer


class SendLimit:
    """A context around a stream: it raises `TimeoutError` in it when one message waits longer than
    `seconds` to be taken.

    A stream has thousands of messages: sending one costs no timer. Owned by the event loop.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waits_since: float | None = None
        self._scope = asyncio.timeout(None)
        self._timer: Timer | None = None

    async def send(self, sending: Awaitable[None]) -> None:
        """Wait until a message is taken."""
        self._waits_since = awake_clock()
        await sending
        self._waits_since = None

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._arm(self._seconds)
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

    def _arm(self, seconds: float) -> None:
        self._timer = Timer(seconds, self._look)

    def _look(self) -> None:
        since = self._waits_since
        left = self._seconds if since is None else since + self._seconds - awake_clock()
        if left > EARLY_SECONDS:
            self._arm(left)
        else:
            self._scope.reschedule(asyncio.get_running_loop().time())
