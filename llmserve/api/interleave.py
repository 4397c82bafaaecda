"""Several generations read as one stream of (index, event)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from llmserve.domain import Event
from llmserve.service import Generation


async def interleave(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Event]]:
    """Events of all generations in the order in which they happen.

    One event per generation is in flight at most: a slow reader makes the generations' own
    mailboxes merge their deltas, so memory stays bounded.
    """
    if len(generations) == 1:
        async for event in generations[0].events():
            yield 0, event
        return
    streams = [generation.events() for generation in generations]
    pending = {asyncio.ensure_future(anext(s)): i for i, s in enumerate(streams)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=pending.__getitem__):
                index = pending.pop(task)
                if isinstance(task.exception(), StopAsyncIteration):
                    continue
                yield index, task.result()
                pending[asyncio.ensure_future(anext(streams[index]))] = index
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
