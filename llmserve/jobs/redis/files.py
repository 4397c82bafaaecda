"""Files in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.queue import Page, Quotas
from llmserve.jobs.redis import scripts
from llmserve.jobs.redis.connection import Connection
from llmserve.jobs.redis.pages import pages
from llmserve.jobs.redis.scripts import PREFIX
from llmserve.jobs.room import check_bytes


class RedisFiles:
    """Owned by the event loop."""

    def __init__(self, connection: Connection, quotas: Quotas, clock: Callable[[], float]) -> None:
        self._redis = connection
        self._quotas = quotas
        self._clock = clock
        self._reserve = connection.script(scripts.RESERVE)
        self._put = connection.script(scripts.PUT_FILE)
        self._forget = connection.script(scripts.FORGET_FILE)

    async def reserve(self, file: BatchFile) -> None:
        used = await self._reserve(
            *(file.id, file.caller, file.to_json(), file.expires_at),
            *(self._quotas.total_bytes, self._quotas.key_bytes, file.charge),
        )
        if used is not None:
            check_bytes(file, self._quotas, *map(int, used))

    async def put(self, file: BatchFile) -> None:
        await self._put(file.id, file.caller, file.to_json(), file.charge, file.expires_at)

    async def find(self, caller: str, file_id: str) -> BatchFile | None:
        [file] = await self._records([file_id])
        if file is None or file.caller != caller or not self._is_there(file):
            return None
        return file

    async def listed(self, caller: str, purposes: Sequence[Purpose], page: Page) -> list[BatchFile]:
        found: list[BatchFile] = []
        async for ids in pages(self._redis, f"{PREFIX}files-of:{caller}", page):
            records = [one for one in await self._records(ids) if one is not None]
            found += [one for one in records if one.purpose in purposes and self._is_there(one)]
            if len(found) > page.limit:
                break
        return found[: page.limit + 1]

    async def forget(self, file_id: str) -> bool:
        return bool(await self._forget(file_id))

    async def expired(self, limit: int) -> list[BatchFile]:
        ids = await self._redis.done(
            self._redis.client.zrangebyscore(
                f"{PREFIX}expiry", "-inf", self._clock(), start=0, num=limit
            )
        )
        return [file for file in await self._records(ids) if file is not None]

    async def _records(self, ids: Sequence[str | bytes]) -> list[BatchFile | None]:
        if not ids:
            return []
        records = await self._redis.done(self._redis.client.hmget(f"{PREFIX}files", ids))
        return [None if text is None else BatchFile.from_json(text) for text in records]

    def _is_there(self, file: BatchFile) -> bool:
        return file.is_complete and file.expires_at > self._clock()
