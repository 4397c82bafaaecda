"""The queues of batches, opened as several workers would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bounded import run
from manual_clock import ManualClock
from redis_server import RedisServer

from llmserve.jobs.batch import Batch, Kind, Status
from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.line import HeldLine, InputLine, Result
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


LEASE = 10.0


def file(number: int = 1, **fields: Any) -> BatchFile:
    known: dict[str, Any] = {
        "id": f"file-{number}",
        "caller": "ann",
        "filename": "x.jsonl",
        "purpose": Purpose.BATCH,
        "size": 100,
        "created_at": 1000.0,
        "expires_at": 2000.0,
    }
    return BatchFile(**known | fields)


def batch(number: int = 1, **fields: Any) -> Batch:
    known: dict[str, Any] = {
        "id": f"batch_{number}",
        "kind": Kind.BATCH,
        "caller": "ann",
        "endpoint": "/v1/completions",
        "input_file_id": f"file-{number}",
        "window": "24h",
        "created_at": 1000.0,
        "expires_at": 5000.0,
    }
    return Batch(**known | fields)


def lines(count: int) -> list[InputLine]:
    return [InputLine(n, n * 50, 50, f"ü line {n}") for n in range(1, count + 1)]


def good(number: int) -> Result:
    return Result(number, True, b'{"line": %d}\n' % number)


async def running(queue: JobQueue, count: int, number: int = 1, caller: str = "ann") -> Batch:
    """A batch in progress with so many lines."""
    new = await queue.create(batch(number, caller=caller), 0, None)
    started = new.at(Status.IN_PROGRESS, 1001.0)
    assert await queue.start(started, lines(count), 5000.0)
    return started


async def taken(queue: JobQueue, owner: str, limit: int = 100) -> list[HeldLine]:
    return await queue.take_lines(owner, limit, LEASE)


def numbers(held: list[HeldLine]) -> list[int]:
    return sorted(one.line.number for one in held)
