"""Batches in Redis."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from llmserve.errors import IdempotencyKeyReused
from llmserve.jobs.batch import Batch, Counts, Kind, Status
from llmserve.jobs.line import InputLine
from llmserve.jobs.queue import Depth, Idempotency, Page, Quotas
from llmserve.jobs.redis import scripts
from llmserve.jobs.redis.connection import Connection
from llmserve.jobs.redis.pages import pages
from llmserve.jobs.redis.scripts import PREFIX
from llmserve.jobs.room import check_batches, check_lines

ADDED_AT_ONCE: Final = 500
ADDING_SECONDS: Final = 3600
"""Lines of a batch whose worker ended while it added them are gone after that."""
FIELDS: Final = ("record", "total", "completed", "failed")


class RedisBatches:
    """Owned by the event loop."""

    def __init__(self, connection: Connection, quotas: Quotas, clock: Callable[[], float]) -> None:
        self._redis = connection
        self._quotas = quotas
        self._clock = clock
        self._create = connection.script(scripts.CREATE)
        self._update = connection.script(scripts.UPDATE)
        self._take = connection.script(scripts.TAKE_BATCH)
        self._remove = connection.script(scripts.REMOVE)
        self._begin = connection.script(scripts.BEGIN)
        self._depth = connection.script(scripts.DEPTH)

    async def create(self, batch: Batch, due: float, idempotency: Idempotency | None) -> Batch:
        is_batch = batch.kind is Kind.BATCH
        what, *told = await self._create(
            *(batch.id, batch.caller, batch.kind, batch.status, batch.input_file_id),
            *(batch.to_json(), due),
            *(("", "") if idempotency is None else (idempotency.key, idempotency.digest)),
            self._quotas.key_batches if is_batch else self._quotas.key_requests,
        )
        if what == b"reused" and idempotency is not None:
            raise IdempotencyKeyReused(idempotency.key)
        if what == b"full":
            check_batches(self._quotas, batch.kind, int(told[0]))
        return _batch(told) if what == b"found" else batch

    async def find(self, caller: str, batch_id: str) -> Batch | None:
        [batch] = await self._records([batch_id])
        return batch if batch is not None and batch.caller == caller else None

    async def listed(self, caller: str, page: Page) -> list[Batch]:
        found: list[Batch] = []
        async for ids in pages(self._redis, f"{PREFIX}batches-of:{caller}", page):
            records = await self._records([one.decode() for one in ids])
            found += [one for one in records if one is not None and one.kind is Kind.BATCH]
            if len(found) > page.limit:
                break
        return found[: page.limit + 1]

    async def uses_file(self, caller: str, file_id: str) -> bool:
        key = f"{PREFIX}open-of:{caller}"
        values = await self._redis.done(cast(Awaitable[Any], self._redis.client.hvals(key)))
        return any(one.endswith(b" " + file_id.encode()) for one in values)

    async def update(self, batch: Batch, was: Status, due: float, *, clears: bool) -> bool:
        updated = await self._update(
            *(batch.id, was, batch.to_json(), batch.status, int(batch.is_open), due, int(clears))
        )
        return bool(updated)

    async def start(self, batch: Batch, lines: Sequence[InputLine], due: float) -> bool:
        adding = f"{PREFIX}adding:{batch.id}:{uuid.uuid4().hex}"
        for first in range(0, len(lines), ADDED_AT_ONCE):
            pipe = self._redis.client.pipeline(transaction=False)
            for one in lines[first : first + ADDED_AT_ONCE]:
                pipe.xadd(
                    adding,
                    {"offset": one.offset, "size": one.size, "custom_id": one.custom_id},
                    id=f"{one.number}-0",
                )
            pipe.expire(adding, ADDING_SECONDS)
            await self._redis.done(pipe.execute())
        what, *told = await self._begin(
            *(batch.id, batch.to_json(), due, len(lines), self._quotas.key_lines, adding)
        )
        if what == b"full":
            check_lines(self._quotas, int(told[0]), len(lines))
        return bool(what == b"begun")

    async def take(self, seconds: float) -> Batch | None:
        now = self._clock()
        row = await self._take(now, now + seconds)
        return None if row is None else _batch(row)

    async def hold(self, batch_id: str, seconds: float) -> None:
        due = {batch_id: self._clock() + seconds}
        await self._redis.done(self._redis.client.zadd(f"{PREFIX}due", due, xx=True))

    async def remove(self, batch_id: str) -> None:
        await self._remove(batch_id)

    async def depth(self) -> Depth:
        batches, lines = await self._depth()
        return Depth(int(batches), int(lines))

    async def _records(self, ids: Sequence[str]) -> list[Batch | None]:
        pipe = self._redis.client.pipeline(transaction=False)
        for one in ids:
            pipe.hmget(f"{PREFIX}batch:{one}", FIELDS)
        rows = await self._redis.done(pipe.execute())
        return [None if row[0] is None else _batch(row) for row in rows]


def _batch(row: Sequence[bytes]) -> Batch:
    record, *counts = row
    return Batch.from_json(record, Counts(*map(int, counts)))
