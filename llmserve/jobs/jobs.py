"""Batches of this server, for its routes: what clients put there, and the loops that work on it."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from loguru import logger

from llmserve.errors import StoreFailed
from llmserve.jobs.answered import RunLine
from llmserve.jobs.batch import Batch
from llmserve.jobs.batch_file import BatchFile
from llmserve.jobs.bell import Bell, rung
from llmserve.jobs.contents import Contents, writing
from llmserve.jobs.keeper import Keeper
from llmserve.jobs.queue import Idempotency, JobQueue
from llmserve.jobs.rules import Rules
from llmserve.jobs.runner import IDLE_SECONDS, Runner
from llmserve.jobs.webhook import Webhooks
from llmserve.observability.metrics import Metrics
from llmserve.trouble import Trouble

SWEEP_SECONDS: Final = 60.0
DEPTH_SECONDS: Final = 5.0
"""How often to look how much there is to do, for the metrics."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """What routes use. All workers that use one queue work on it."""

    queue: JobQueue
    contents: Contents
    rules: Rules
    webhooks: Webhooks
    keeper: Keeper
    bell: Bell

    @contextlib.asynccontextmanager
    async def new_file(self, file: BatchFile) -> AsyncIterator[BinaryIO]:
        """Write a file, which `file.size` bounds. It is there for its caller once
        `queue.put_file` was told its size.

        Raises:
            QuotaExceeded: there is no room for it.
        """
        await self.queue.reserve(file)
        try:
            async with writing(self.contents, file.id) as content:
                yield content
        except BaseException:
            await asyncio.shield(self.keeper.delete_file(file.id))
            raise

    async def create(self, batch: Batch, idempotency: Idempotency | None = None) -> Batch:
        """Put a batch into the queue; see `JobQueue.create`."""
        created = await self.queue.create(batch, batch.created_at, idempotency)
        self.bell.ring()
        return created

    async def cancel(self, batch: Batch) -> bool:
        """See `Keeper.cancel`."""
        is_cancelled = await self.keeper.cancel(batch)
        self.bell.ring()
        return is_cancelled

    @contextlib.asynccontextmanager
    async def working(
        self, run_line: RunLine, metrics: Metrics, is_closing: Callable[[], bool]
    ) -> AsyncIterator[None]:
        """Within the context this worker runs lines and looks after batches, until it closes."""
        runner = Runner(self.queue, self.contents, self.rules, run_line, metrics, self.bell)
        tasks = [
            asyncio.create_task(runner.run(is_closing), name="batch lines"),
            asyncio.create_task(self._keep(metrics, is_closing), name="batches"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, metrics: Metrics, is_closing: Callable[[], bool]) -> None:
        trouble = Trouble("the files of batches cannot be written", "batches do not end")
        sweep_at = depth_at = time.monotonic()
        while True:
            event = self.bell.listen()
            try:
                while not is_closing() and await self.keeper.step():
                    self.bell.ring()
                if time.monotonic() >= depth_at:
                    depth_at = time.monotonic() + DEPTH_SECONDS
                    depth = await self.queue.depth()
                    metrics.open_batches.set(depth.open_batches)
                    metrics.batch_lines_waiting.set(depth.waiting_lines)
                if time.monotonic() >= sweep_at:
                    sweep_at = time.monotonic() + SWEEP_SECONDS
                    await self.keeper.sweep()
                trouble.is_over()
            except StoreFailed:
                event = asyncio.Event()  # the log has it; not again before some time
            except OSError as error:
                trouble.begins(error)
            # A worker's loop: the batch will be due again, and others must go on.
            except Exception:
                logger.exception("a step with a batch broke")
            await rung(event, IDLE_SECONDS)


def new_id(prefix: str) -> str:
    """Nobody can guess it."""
    return prefix + uuid.uuid4().hex
