"""Responses that are generated though no client waits for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from loguru import logger

from llmserve.errors import StoreFailed

LOOK_SECONDS: Final = 1.0
"""How often to look for those that another worker was asked to cancel."""


class BackgroundResponses:
    """Those of this worker. Owned by the event loop. `running` says which of them are still
    wanted."""

    def __init__(
        self,
        running: Callable[[], Awaitable[set[str]]],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._running = running
        self._look_seconds = look_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looker: asyncio.Task[None] | None = None

    async def start(self, response_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin the work, which is cancelled when nobody wants the response any more."""
        task = asyncio.create_task(work, name=f"background {response_id}")
        self._tasks[response_id] = task
        task.add_done_callback(lambda _: self._ended(response_id))
        if self._looker is None:
            self._looker = asyncio.create_task(self._look(), name="background responses")
        await asyncio.sleep(0)  # a task that is cancelled before it begins gives nothing back

    def cancel(self, response_id: str) -> None:
        """Stop, if it is one of this worker's."""
        task = self._tasks.get(response_id)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop all."""
        tasks = list(self._tasks.values())
        if self._looker is not None:
            tasks.append(self._looker)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, response_id: str) -> None:
        task = self._tasks.pop(response_id)
        if not task.cancelled() and task.exception() is not None:
            logger.opt(exception=task.exception()).error("a response in the background broke")

    async def _look(self) -> None:
        """As long as there are any."""
        try:
            while self._tasks:
                await asyncio.sleep(self._look_seconds)
                begun = list(self._tasks)
                with contextlib.suppress(StoreFailed):
                    wanted = await self._running()
                    for response_id in begun:
                        if response_id not in wanted:
                            self.cancel(response_id)
        finally:
            self._looker = None
