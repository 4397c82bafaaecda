"""Lists in Redis, read in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from llmserve.jobs.queue import Page
from llmserve.jobs.redis.connection import Connection

PART: Final = 100


async def pages(connection: Connection, key: str, page: Page) -> AsyncIterator[list[Any]]:
    """The ids in a sorted set from where the page begins, in its order. Nothing, if what it is to
    come after is not there."""
    client, at = connection.client, "-inf" if page.is_ascending else "+inf"
    if page.after is not None:
        place = await connection.done(client.zscore(key, page.after))
        if place is None:
            return
        at = f"({place:.0f}"
    start = 0
    while True:
        if page.is_ascending:
            read = client.zrangebyscore(key, at, "+inf", start=start, num=PART)
        else:
            read = client.zrevrangebyscore(key, at, "-inf", start=start, num=PART)
        ids = await connection.done(read)
        if not ids:
            return
        yield ids
        start += len(ids)
