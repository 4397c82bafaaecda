"""Several generations as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from llmserve.api.interleave import interleave
from llmserve.domain import Delta, Event, Finish, FinishReason, Usage

END = Finish(FinishReason.STOP, Usage())


class Scripted:
    """A generation that says what it is told, one event at a time."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue()
        self.is_closed = False

    async def events(self) -> AsyncGenerator[Event]:
        try:
            while True:
                event = await self.queue.get()
                yield event
                if event is END:
                    return
        finally:
            self.is_closed = True


@pytest.mark.parametrize("count", [1, 3])
def test_every_event_comes_once_with_its_index(count: int) -> None:
    async def test() -> None:
        generations = [Scripted() for _ in range(count)]
        for i, generation in enumerate(generations):
            for event in (Delta(f"{i}a", ()), Delta(f"{i}b", ()), END):
                generation.queue.put_nowait(event)
        seen: dict[int, list[Event]] = {i: [] for i in range(count)}
        async with asyncio.timeout(5):
            async for index, event in interleave(generations):  # type: ignore[arg-type]
                seen[index].append(event)
        for i, events in seen.items():
            assert events == [Delta(f"{i}a", ()), Delta(f"{i}b", ()), END]

    asyncio.run(test())


def test_a_silent_generation_does_not_hold_up_the_others() -> None:
    async def test() -> None:
        silent, talking = Scripted(), Scripted()
        talking.queue.put_nowait(Delta("hi", ()))
        stream = interleave([silent, talking])  # type: ignore[list-item]
        async with asyncio.timeout(5):
            assert await anext(stream) == (1, Delta("hi", ()))
            await stream.aclose()
        assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []

    asyncio.run(test())
