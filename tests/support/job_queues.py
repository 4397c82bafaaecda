"""The queues of batches, opened as several workers would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bounded import run
from manual_clock import ManualClock
from redis_server import RedisServer

from llmserve.jobs.queue import JobQueue, Quotas
from llmserve.jobs.redis.queue import open_redis_queue
from llmserve.jobs.sqlite.queue import open_sqlite_queue

QUOTAS = Quotas(total_bytes=100_000, key_bytes=50_000, key_batches=3, key_requests=4, key_lines=100)
Test = Callable[[JobQueue], Coroutine[Any, Any, None]]


class Queues:
    """Opens queues on the same data: those of several workers."""

    def __init__(self, folder: Path, redis: RedisServer | None, clock: ManualClock) -> None:
        self._folder = folder
        self._redis = redis
        self.clock = clock

    @asynccontextmanager
    async def open(self) -> AsyncIterator[JobQueue]:
        if self._redis is None:
            opened = open_sqlite_queue(self._folder, QUOTAS, self.clock)
        else:
            opened = open_redis_queue(self._redis.url, QUOTAS, self.clock)
        async with opened as queue:
            yield queue

    def run(self, test: Test) -> None:
        async def body() -> None:
            async with self.open() as queue:
                await test(queue)

        run(body)
