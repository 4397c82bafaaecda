"""Lines and their results in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from llmserve.jobs.line import HeldLine, InputLine, LineKey, Result
from llmserve.jobs.redis import scripts
from llmserve.jobs.redis.connection import Connection
from llmserve.jobs.redis.scripts import PREFIX


class RedisLines:
    """Owned by the event loop."""

    def __init__(self, connection: Connection, clock: Callable[[], float]) -> None:
        self._redis = connection
        self._clock = clock
        self._take = connection.script(scripts.TAKE_LINES)
        self._hold = connection.script(scripts.HOLD_LINES)
        self._release = connection.script(scripts.RELEASE)
        self._finish = connection.script(scripts.FINISH)

    async def take(self, owner: str, limit: int, seconds: float) -> list[HeldLine]:
        now = self._clock()
        told = await self._take(now, now + seconds, owner, limit)
        if told is None:
            return []
        batch_id, caller, file_id = (text.decode() for text in told[:3])
        return [
            HeldLine(
                key=LineKey(batch_id, int(number)),
                caller=caller,
                input_file_id=file_id,
                line=InputLine(int(number), int(offset), int(size), custom_id.decode()),
                attempts=attempts,
                losses=taken - 1 - attempts,
            )
            for number, offset, size, custom_id, taken, attempts in told[3:]
        ]

    async def hold(self, owner: str, keys: Sequence[LineKey], seconds: float) -> set[LineKey]:
        if not keys:
            return set()
        kept = await self._hold(self._clock() + seconds, owner, *_flat(keys))
        return {LineKey(batch_id.decode(), int(number)) for batch_id, number in kept}

    async def put_off(self, owner: str, key: LineKey, seconds: float) -> None:
        await self._release(self._clock() + seconds, "a", 1, owner, *_flat([key]))

    async def give_back(self, owner: str, keys: Sequence[LineKey]) -> None:
        await self._release(0, "t", -1, owner, *_flat(keys))

    async def finish(self, key: LineKey, result: Result) -> bool:
        is_first = await self._finish(*key, int(result.is_success), result.content)
        return bool(is_first)

    async def results(self, batch_id: str, after: int, limit: int) -> list[Result]:
        client = self._redis.client
        numbers = await self._redis.done(
            client.zrangebyscore(f"{PREFIX}done:{batch_id}", f"({after}", "+inf", 0, limit)
        )
        if not numbers:
            return []
        kept = await self._redis.done(client.hmget(f"{PREFIX}results:{batch_id}", numbers))
        return [
            Result(int(number), text[:1] == b"1", text[1:])
            for number, text in zip(numbers, kept, strict=True)
            if text is not None  # cleared in between
        ]

    async def unfinished(self, batch_id: str, after: int, limit: int) -> list[InputLine]:
        entries = await self._redis.done(
            self._redis.client.xrange(f"{PREFIX}lines:{batch_id}", f"{after + 1}-0", "+", limit)
        )
        return [
            InputLine(
                int(entry_id.partition(b"-")[0]),
                int(fields[b"offset"]),
                int(fields[b"size"]),
                fields[b"custom_id"].decode(),
            )
            for entry_id, fields in entries
        ]


def _flat(keys: Sequence[LineKey]) -> Iterator[str | int]:
    for key in keys:
        yield from key
