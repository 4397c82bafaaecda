"""The queue for the event loop: the database is read and written on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from llmserve.errors import ConfigurationError, StoreFailed
from llmserve.jobs.batch import Batch, Status
from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.line import HeldLine, InputLine, LineKey, Result
from llmserve.jobs.queue import Depth, Idempotency, JobQueue, Page, Quotas
from llmserve.jobs.sqlite.batches import BatchTable
from llmserve.jobs.sqlite.files import FileTable
from llmserve.jobs.sqlite.lines import LineTable
from llmserve.jobs.sqlite.schema import SCHEMA
from llmserve.storage.sqlite_file import open_sqlite
from llmserve.trouble import Trouble

T = TypeVar("T")

FILE: Final = "queue.db"


class SqliteQueue:
    """All workers of a box share one file."""

    def __init__(
        self,
        sql: sqlite3.Connection,
        quotas: Quotas,
        clock: Callable[[], float],
        thread: ThreadPoolExecutor,
    ) -> None:
        self._sql = sql
        self._files = FileTable(sql, quotas, clock)
        self._batches = BatchTable(sql, quotas, clock)
        self._lines = LineTable(sql, clock)
        self._thread = thread
        self._trouble = Trouble("the queue of batches cannot be used", "batches stand still")

    async def reserve(self, file: BatchFile) -> None:
        await self._run(self._files.reserve, file)

    async def put_file(self, file: BatchFile) -> None:
        await self._run(self._files.put, file)

    async def find_file(self, caller: str, file_id: str) -> BatchFile | None:
        return await self._run(self._files.find, caller, file_id)

    async def list_files(
        self, caller: str, purposes: Sequence[Purpose], page: Page
    ) -> list[BatchFile]:
        return await self._run(self._files.listed, caller, purposes, page)

    async def forget_file(self, file_id: str) -> bool:
        return await self._run(self._files.forget, file_id)

    async def expired_files(self, limit: int) -> list[BatchFile]:
        return await self._run(self._files.expired, limit)

    async def create(self, batch: Batch, due: float, idempotency: Idempotency | None) -> Batch:
        return await self._run(self._batches.create, batch, due, idempotency)

    async def find(self, caller: str, batch_id: str) -> Batch | None:
        return await self._run(self._batches.find, caller, batch_id)

    async def list_batches(self, caller: str, page: Page) -> list[Batch]:
        return await self._run(self._batches.listed, caller, page)

    async def uses_file(self, caller: str, file_id: str) -> bool:
        return await self._run(self._batches.uses_file, caller, file_id)

    async def update(self, batch: Batch, was: Status, due: float, *, clears: bool = False) -> bool:
        return await self._run(self._batches.update, batch, was, due, clears)

    async def take_batch(self, seconds: float) -> Batch | None:
        return await self._run(self._batches.take, seconds)

    async def hold_batch(self, batch_id: str, seconds: float) -> None:
        await self._run(self._batches.hold, batch_id, seconds)

    async def remove(self, batch_id: str) -> None:
        await self._run(self._batches.remove, batch_id)

    async def start(self, batch: Batch, lines: Sequence[InputLine], due: float) -> bool:
        return await self._run(self._batches.start, batch, lines, due)

    async def take_lines(self, owner: str, limit: int, seconds: float) -> list[HeldLine]:
        return await self._run(self._lines.take, owner, limit, seconds)

    async def hold_lines(self, owner: str, keys: Sequence[LineKey], seconds: float) -> set[LineKey]:
        return await self._run(self._lines.hold, owner, keys, seconds)

    async def put_off(self, owner: str, key: LineKey, seconds: float) -> None:
        await self._run(self._lines.put_off, owner, key, seconds)

    async def give_back(self, owner: str, keys: Sequence[LineKey]) -> None:
        await self._run(self._lines.give_back, owner, keys)

    async def finish(self, key: LineKey, result: Result) -> bool:
        return await self._run(self._lines.finish, key, result)

    async def results(self, batch_id: str, after: int, limit: int) -> list[Result]:
        return await self._run(self._lines.results, batch_id, after, limit)

    async def unfinished(self, batch_id: str, after: int, limit: int) -> list[InputLine]:
        return await self._run(self._lines.unfinished, batch_id, after, limit)

    async def depth(self) -> Depth:
        return await self._run(self._batches.depth)

    async def close(self) -> None:
        with contextlib.suppress(StoreFailed):
            await self._run(self._sql.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._thread, partial(work, *args))
        except sqlite3.Error as error:
            self._trouble.begins(error)
            raise StoreFailed(
                "the queue of batches cannot be used now; the log says why"
            ) from error
        self._trouble.is_over()
        return done


@contextlib.asynccontextmanager
async def open_sqlite_queue(
    folder: Path, quotas: Quotas, clock: Callable[[], float] = time.time
) -> AsyncIterator[JobQueue]:
    """The queue in this folder, which is made if it is not there.

    Raises:
        ConfigurationError: it cannot be used.
    """
    thread = ThreadPoolExecutor(1, "batch-queue")
    loop = asyncio.get_running_loop()
    try:
        sql = await loop.run_in_executor(thread, _opened, folder)
    except ConfigurationError:
        thread.shutdown()
        raise
    queue = SqliteQueue(sql, quotas, clock, thread)
    try:
        yield queue
    finally:
        await queue.close()


def check_sqlite(folder: Path) -> None:
    """Check, before any worker starts, that the queue in this folder can be used.

    Raises:
        ConfigurationError: it cannot.
    """
    _opened(folder).close()


def _opened(folder: Path) -> sqlite3.Connection:
    return open_sqlite(folder / FILE, SCHEMA, "jobs_dir", survives_power_loss=True)
