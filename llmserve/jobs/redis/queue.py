"""The queue, put together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from llmserve.jobs.batch import Batch, Status
from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.line import HeldLine, InputLine, LineKey, Result
from llmserve.jobs.queue import Depth, Idempotency, JobQueue, Page, Quotas
from llmserve.jobs.redis.batches import RedisBatches
from llmserve.jobs.redis.connection import Connection
from llmserve.jobs.redis.files import RedisFiles
from llmserve.jobs.redis.lines import RedisLines


class RedisQueue:
    """Workers of several boxes share one Redis. Their clocks must agree, to a part of a lease."""

    def __init__(self, connection: Connection, quotas: Quotas, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._files = RedisFiles(connection, quotas, clock)
        self._batches = RedisBatches(connection, quotas, clock)
        self._lines = RedisLines(connection, clock)

    async def reserve(self, file: BatchFile) -> None:
        await self._files.reserve(file)

    async def put_file(self, file: BatchFile) -> None:
        await self._files.put(file)

    async def find_file(self, caller: str, file_id: str) -> BatchFile | None:
        return await self._files.find(caller, file_id)

    async def list_files(
        self, caller: str, purposes: Sequence[Purpose], page: Page
    ) -> list[BatchFile]:
        return await self._files.listed(caller, purposes, page)

    async def forget_file(self, file_id: str) -> bool:
        return await self._files.forget(file_id)

    async def expired_files(self, limit: int) -> list[BatchFile]:
        return await self._files.expired(limit)

    async def create(self, batch: Batch, due: float, idempotency: Idempotency | None) -> Batch:
        return await self._batches.create(batch, due, idempotency)

    async def find(self, caller: str, batch_id: str) -> Batch | None:
        return await self._batches.find(caller, batch_id)

    async def list_batches(self, caller: str, page: Page) -> list[Batch]:
        return await self._batches.listed(caller, page)

    async def uses_file(self, caller: str, file_id: str) -> bool:
        return await self._batches.uses_file(caller, file_id)

    async def update(self, batch: Batch, was: Status, due: float, *, clears: bool = False) -> bool:
        return await self._batches.update(batch, was, due, clears=clears)

    async def take_batch(self, seconds: float) -> Batch | None:
        return await self._batches.take(seconds)

    async def hold_batch(self, batch_id: str, seconds: float) -> None:
        await self._batches.hold(batch_id, seconds)

    async def remove(self, batch_id: str) -> None:
        await self._batches.remove(batch_id)

    async def start(self, batch: Batch, lines: Sequence[InputLine], due: float) -> bool:
        return await self._batches.start(batch, lines, due)

    async def take_lines(self, owner: str, limit: int, seconds: float) -> list[HeldLine]:
        return await self._lines.take(owner, limit, seconds)

    async def hold_lines(self, owner: str, keys: Sequence[LineKey], seconds: float) -> set[LineKey]:
        return await self._lines.hold(owner, keys, seconds)

    async def put_off(self, owner: str, key: LineKey, seconds: float) -> None:
        await self._lines.put_off(owner, key, seconds)

    async def give_back(self, owner: str, keys: Sequence[LineKey]) -> None:
        await self._lines.give_back(owner, keys)

    async def finish(self, key: LineKey, result: Result) -> bool:
        return await self._lines.finish(key, result)

    async def results(self, batch_id: str, after: int, limit: int) -> list[Result]:
        return await self._lines.results(batch_id, after, limit)

    async def unfinished(self, batch_id: str, after: int, limit: int) -> list[InputLine]:
        return await self._lines.unfinished(batch_id, after, limit)

    async def depth(self) -> Depth:
        return await self._batches.depth()

    async def close(self) -> None:
        await self._connection.close()


@contextlib.asynccontextmanager
async def open_redis_queue(
    url: str, quotas: Quotas, clock: Callable[[], float] = time.time
) -> AsyncIterator[JobQueue]:
    """The queue at this URL. Redis may be away now: what needs it fails until it is there.

    Raises:
        ConfigurationError: the extra is missing.
    """
    queue = RedisQueue(Connection(url), quotas, clock)
    try:
        yield queue
    finally:
        await queue.close()


async def check_redis(url: str) -> None:
    """Check, before any worker starts, that it answers.

    Raises:
        ConfigurationError: it does not, or the extra is missing.
    """
    connection = Connection(url)
    try:
        await connection.check()
    finally:
        await connection.close()
