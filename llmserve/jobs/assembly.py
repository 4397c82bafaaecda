"""The output files of a batch, from the results of its lines."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import BinaryIO, Final

from llmserve.jobs.answered import failed
from llmserve.jobs.batch import Batch, Status
from llmserve.jobs.contents import Contents, writing
from llmserve.jobs.queue import JobQueue

PAGE: Final = 32
"""Results that are in memory at a time: each may be megabytes."""
EXPIRED: Final = "This request could not be executed before the completion window expired."


class Assembly:
    """Writes the files of a batch whose results cannot change any more. Doing it twice writes the
    same files again."""

    def __init__(self, queue: JobQueue, contents: Contents) -> None:
        self._queue = queue
        self._contents = contents

    async def write(self, batch: Batch) -> tuple[int, int]:
        """How many bytes the output and the error file have; one that would be empty is not there.

        Raises:
            OSError: they cannot be written.
        """
        assert batch.output_id is not None
        assert batch.error_id is not None
        async with AsyncExitStack() as stack:
            output = await stack.enter_async_context(writing(self._contents, batch.output_id))
            errors = await stack.enter_async_context(writing(self._contents, batch.error_id))
            await self._write_results(batch, output, errors)
            if batch.outcome is Status.EXPIRED:
                await self._write_expired(batch, errors)
            sizes = output.tell(), errors.tell()
        for size, file_id in zip(sizes, (batch.output_id, batch.error_id), strict=True):
            if not size:
                await asyncio.to_thread(self._contents.delete, file_id)
        return sizes

    async def _write_results(self, batch: Batch, output: BinaryIO, errors: BinaryIO) -> None:
        after = 0
        while page := await self._queue.results(batch.id, after, PAGE):
            good = b"".join(one.content for one in page if one.is_success)
            bad = b"".join(one.content for one in page if not one.is_success)
            await asyncio.to_thread(output.write, good)
            await asyncio.to_thread(errors.write, bad)
            after = page[-1].number

    async def _write_expired(self, batch: Batch, errors: BinaryIO) -> None:
        after = 0
        while page := await self._queue.unfinished(batch.id, after, PAGE):
            lines = [failed(line, "batch_expired", EXPIRED).content for line in page]
            await asyncio.to_thread(errors.write, b"".join(lines))
            after = page[-1].number
