"""Work for nobody who waits: it ends by itself, when it is not wanted, or with the server."""

from __future__ import annotations

import asyncio

from bounded import run

from llmserve.errors import StoreFailed
from llmserve.storage.background import BackgroundResponses


class Work:
    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.ended = asyncio.Event()
        self.was_cancelled = False

    async def __call__(self) -> None:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        finally:
            self.ended.set()


def test_work_that_nobody_wants_any_more_is_cancelled() -> None:
    async def test() -> None:
        wanted = {"a", "b"}
        looks = asyncio.Semaphore(0)

        async def running() -> set[str]:
            looks.release()
            return wanted

        background = BackgroundResponses(running, look_seconds=0)
        first, second = Work(), Work()
        await background.start("a", first())
        await background.start("b", second())
        await looks.acquire()
        wanted.discard("a")
        await first.ended.wait()
        assert first.was_cancelled
        assert not second.ended.is_set()
        second.may_end.set()
        await second.ended.wait()
        assert not second.was_cancelled
        await background.close()

    run(test)


def test_a_store_that_fails_cancels_nothing() -> None:
    async def test() -> None:
        looked = asyncio.Event()

        async def running() -> set[str]:
            looked.set()
            raise StoreFailed("no")

        background = BackgroundResponses(running, look_seconds=0)
        work = Work()
        await background.start("a", work())
        await looked.wait()
        await asyncio.sleep(0)
        assert not work.ended.is_set()
        await background.close()
        assert work.was_cancelled

    run(test)


def test_one_is_cancelled_at_once_where_it_runs() -> None:
    async def test() -> None:
        async def running() -> set[str]:
            raise AssertionError("nobody looks so soon")

        background = BackgroundResponses(running)
        work = Work()
        await background.start("a", work())
        background.cancel("another worker's")
        background.cancel("a")
        await work.ended.wait()
        assert work.was_cancelled
        await background.close()

    run(test)
