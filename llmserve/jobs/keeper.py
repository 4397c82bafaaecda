"""What becomes of batches and files as time goes on. Any worker may do any step, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from typing import Final

from llmserve.errors import QuotaExceeded
from llmserve.jobs.assembly import Assembly
from llmserve.jobs.batch import Batch, Kind, Status
from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.contents import Contents
from llmserve.jobs.queue import JobQueue
from llmserve.jobs.rules import Rules
from llmserve.jobs.validation import Checked, LineError, Wanted, check_lines
from llmserve.jobs.webhook import Webhooks

SWEPT_AT_ONCE: Final = 100


def new_file_id() -> str:
    """Of an upload or an output."""
    return f"file-{uuid.uuid4().hex}"


class Keeper:
    """Takes batches that are due and does what is due with them."""

    def __init__(
        self,
        queue: JobQueue,
        contents: Contents,
        rules: Rules,
        webhooks: Webhooks,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._contents = contents
        self._rules = rules
        self._webhooks = webhooks
        self._clock = clock
        self._assembly = Assembly(queue, contents)

    async def step(self) -> bool:
        """Do what is due with one batch; whether there was one.

        Raises:
            StoreFailed: the queue cannot be used.
            OSError: a file cannot be read or written; the batch will be due again.
        """
        batch = await self._queue.take_batch(self._rules.lease_seconds)
        if batch is None:
            return False
        async with self._held(batch):
            match batch.status:
                case Status.VALIDATING:
                    await self._validate(batch)
                case Status.IN_PROGRESS:
                    await self._finish(batch)
                case Status.FINALIZING | Status.CANCELLING:
                    await self._assemble(batch)
                case _ if batch.webhook is not None:
                    await self._notify(batch)
                case _:
                    await self._remove(batch)
        return True

    async def sweep(self) -> None:
        """Delete files whose time is over, except those that an open batch reads."""
        for file in await self._queue.expired_files(SWEPT_AT_ONCE):
            if await self._queue.uses_file(file.caller, file.id):
                later = self._clock() + self._rules.max_window_seconds
                await self._queue.put_file(replace(file, expires_at=later))
            else:
                await self.delete_file(file.id)
        await asyncio.to_thread(self._contents.sweep)

    async def delete_file(self, file_id: str) -> None:
        """First what is known of it, then its content: nobody finds one without content."""
        await self._queue.forget_file(file_id)
        await asyncio.to_thread(self._contents.delete, file_id)

    async def cancel(self, batch: Batch) -> bool:
        """End it without its other lines; whether it could be, in the state in which it was."""
        now = self._clock()
        if batch.kind is Kind.BATCH:
            changes = {"outcome": Status.CANCELLED, **_output_ids()}
            cancelling = batch.at(Status.CANCELLING, now, **changes)
            return await self._queue.update(cancelling, batch.status, now)
        return await self._end(batch, Status.CANCELLED)

    async def _validate(self, batch: Batch) -> None:
        wanted = Wanted(batch.endpoint, self._rules.max_lines, self._rules.max_body_bytes)

        def check() -> Checked:
            with self._contents.path(batch.input_file_id).open("rb") as file:
                return check_lines(file, wanted)

        try:
            checked = await asyncio.to_thread(check)
        except FileNotFoundError:
            checked = Checked(errors=[LineError("file_not_found", "the input file is gone")])
        if not checked.errors:
            started = batch.at(Status.IN_PROGRESS, self._clock())
            try:
                await self._queue.start(started, checked.lines, batch.expires_at)
                return
            except QuotaExceeded as error:
                checked.errors.append(LineError(error.code, error.message))
        errors = tuple(asdict(error) for error in checked.errors)
        await self._end(replace(batch, errors=errors), Status.FAILED)

    async def _finish(self, batch: Batch) -> None:
        """All lines are done, or the window is over."""
        outcome = Status.COMPLETED if batch.counts.are_all_in else Status.EXPIRED
        now = self._clock()
        if outcome is Status.EXPIRED and now < batch.expires_at:
            return  # it will be due again
        if batch.kind is Kind.BATCH:
            changes = {"outcome": outcome, **_output_ids()}
            finalizing = batch.at(Status.FINALIZING, now, **changes)
            await self._queue.update(finalizing, batch.status, now)
        elif outcome is Status.COMPLETED and batch.counts.failed:
            await self._end(batch, Status.FAILED)
        else:
            await self._end(batch, outcome)

    async def _assemble(self, batch: Batch) -> None:
        assert batch.outcome is not None
        output_size, error_size = await self._assembly.write(batch)
        output = await self._add_output(batch, batch.output_id, "output", output_size)
        errors = await self._add_output(batch, batch.error_id, "errors", error_size)
        ended = replace(batch, output_file_id=output, error_file_id=errors)
        await self._end(ended, batch.outcome)

    async def _add_output(
        self, batch: Batch, file_id: str | None, name: str, size: int
    ) -> str | None:
        if not size or file_id is None:
            return None
        now = self._clock()
        file = BatchFile(
            id=file_id,
            caller=batch.caller,
            filename=f"{batch.id}_{name}.jsonl",
            purpose=Purpose.OUTPUT,
            size=size,
            created_at=now,
            expires_at=now + (batch.output_seconds or self._rules.keep_seconds),
            is_complete=True,
        )
        await self._queue.put_file(file)
        return file_id

    async def _end(self, batch: Batch, outcome: Status) -> bool:
        now = self._clock()
        due = now + self._rules.keep_seconds if batch.webhook is None else now
        # The results of a batch are in its files now; that of a single request stays in the queue.
        ended, is_batch = batch.at(outcome, now), batch.kind is Kind.BATCH
        return await self._queue.update(ended, batch.status, due, clears=is_batch)

    async def _notify(self, batch: Batch) -> None:
        assert batch.webhook is not None
        wait = await self._webhooks.tell(batch, batch.webhook)
        now = self._clock()
        if wait is None:
            told = replace(batch, webhook=None)
            await self._queue.update(told, batch.status, now + self._rules.keep_seconds)
        else:
            webhook = replace(batch.webhook, attempts=batch.webhook.attempts + 1)
            await self._queue.update(replace(batch, webhook=webhook), batch.status, now + wait)

    async def _remove(self, batch: Batch) -> None:
        assert batch.ended_at is not None
        kept_for = batch.ended_at + self._rules.keep_seconds - self._clock()
        if kept_for > 0:  # whoever took it last held it once more, when that was done already
            await self._queue.hold_batch(batch.id, kept_for)
            return
        await self._queue.remove(batch.id)
        if batch.kind is not Kind.BATCH:
            await self.delete_file(batch.input_file_id)

    @contextlib.asynccontextmanager
    async def _held(self, batch: Batch) -> AsyncIterator[None]:
        """Nobody else takes it meanwhile, however long that is."""
        seconds = self._rules.lease_seconds

        async def hold() -> None:
            while True:
                await asyncio.sleep(seconds / 3)
                await self._queue.hold_batch(batch.id, seconds)

        holding = asyncio.create_task(hold(), name=f"hold {batch.id}")
        try:
            yield
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)


def _output_ids() -> dict[str, str]:
    """Chosen before anything is written, so that writing again replaces what was written."""
    return {"output_id": new_file_id(), "error_id": new_file_id()}
