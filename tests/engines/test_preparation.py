"""The threads of templates and tokenizers: who gets one, who is told, what is given back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from bounded import run
from manual_clock import ManualClock

from llmserve.engines import preparation as preparation_module
from llmserve.engines.preparation import LARGE, NUM_THREADS, QUICK, PreparationPool
from llmserve.errors import ModelUnloaded, QueueFull

pytestmark = pytest.mark.usefixtures("no_thread_left")


class Work:
    """Something that keeps a thread until the test lets go."""

    def __init__(self, result: Any = None) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.result = result

    def __call__(self) -> Any:
        self.begun.set()
        assert self.may_end.wait(20)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class House:
    """A pool, and every end that it told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.pool = PreparationPool("test", clock)
        self.ends = 0
        self.works: list[Work] = []

    def begin(
        self, result: Any = None, size: int = 1, caller: str = "a"
    ) -> tuple[Work, asyncio.Task[Any]]:
        work = Work(result)
        self.works.append(work)
        coroutine = self.pool.run(work, size=size, caller=caller, on_end=self._on_end)
        return work, asyncio.create_task(coroutine)

    def _on_end(self) -> None:
        self.ends += 1

    async def settled(self) -> None:
        """Until every thread is free."""
        while self.pool.seconds_running is not None:
            await asyncio.sleep(0.001)


@asynccontextmanager
async def house(clock: Callable[[], float] | None = None) -> AsyncIterator[House]:
    made = House(clock or ManualClock())
    yield made
    for work in made.works:
        work.may_end.set()
    await made.settled()
    made.pool.close(ModelUnloaded("over"))
    assert made.ends == len(made.works), "each is told once"
    for lane in made.pool._lanes:
        assert not lane.queue
        assert not lane.running
        assert lane.waiting_size == 0


async def begun(*works: Work) -> None:
    for work in works:
        while not work.begun.is_set():
            await asyncio.sleep(0.001)


def test_a_result_and_an_error_are_handed_on() -> None:
    async def test() -> None:
        async with house() as h:
            one, first = h.begin("ids")
            two, second = h.begin(ValueError("no"))
            one.may_end.set()
            two.may_end.set()
            assert await first == "ids"
            with pytest.raises(ValueError, match="no"):
                await second

    run(test)


def test_large_ones_leave_a_thread_to_others() -> None:
    async def test() -> None:
        async with house() as h:
            large = [h.begin(i, LARGE + 1) for i in range(5)]
            await begun(large[0][0])
            small, done = h.begin("small", LARGE)
            small.may_end.set()
            assert await done == "small"
            assert not large[1][0].begun.is_set()
            for work, _ in large:
                work.may_end.set()
            assert await asyncio.gather(*(task for _, task in large)) == [*range(5)]

    run(test)


def test_a_flood_of_small_ones_does_not_keep_large_ones_waiting() -> None:
    async def test() -> None:
        async with house() as h:
            small = [h.begin(i) for i in range(4)]
            await begun(small[0][0], small[1][0])
            large, done = h.begin("large", LARGE + 1)
            await asyncio.sleep(0)
            small[0][0].may_end.set()
            large.may_end.set()
            assert await done == "large"
            assert not small[3][0].begun.is_set()
            for work, _ in small:
                work.may_end.set()
            await asyncio.gather(*(task for _, task in small))

    run(test)


def test_those_who_wait_get_their_turns_by_what_they_bring() -> None:
    async def test() -> None:
        async with house() as h:
            order: list[str] = []
            blocker, _ = h.begin("x", LARGE + 1, "blocker")
            await begun(blocker)

            def noted(name: str) -> Callable[[], None]:
                return lambda: order.append(name)

            asked = [("flood", 20 * LARGE)] * 4 + [("other", 2 * LARGE)] * 2
            tasks = []
            for name, size in asked:
                waiting = h.pool.run(noted(name), size=size, caller=name)
                tasks.append(asyncio.create_task(waiting))
                await asyncio.sleep(0)
            blocker.may_end.set()
            await asyncio.gather(*tasks)
            assert order.index("other") <= 1
            assert order[:3].count("other") == 2, "its second one is not behind the whole flood"

    run(test)


def test_who_leaves_the_queue_is_gone_and_who_leaves_a_thread_holds_it_to_the_end() -> None:
    async def test() -> None:
        async with house() as h:
            (one, first), (two, second), (three, third) = (h.begin() for _ in range(3))
            await begun(one, two)
            third.cancel()
            first.cancel()
            await asyncio.wait([first, third])
            assert h.ends == 1
            assert h.pool.seconds_running is not None
            four, fourth = h.begin("next")
            await asyncio.sleep(0.01)
            assert not four.begun.is_set(), "both threads work"
            one.may_end.set()
            four.may_end.set()
            assert await fourth == "next"
            assert h.ends == 3
            assert not three.begun.is_set()
            assert not second.done()
            two.may_end.set()
            await second

    run(test)


def test_the_age_is_that_of_the_oldest_work_and_waiting_counts_for_nothing() -> None:
    async def test() -> None:
        clock = ManualClock()
        async with house(clock) as h:
            assert h.pool.seconds_running is None
            works = [h.begin()[0] for _ in range(NUM_THREADS + 1)]
            await begun(*works[:NUM_THREADS])
            clock.now += 5
            assert h.pool.seconds_running == 5
            for work in works[:NUM_THREADS]:
                work.may_end.set()
            await begun(works[-1])
            while h.pool.seconds_running != 0:
                await asyncio.sleep(0.001)

    run(test)


def test_a_failure_reaches_those_on_threads_and_those_who_wait() -> None:
    async def test() -> None:
        async with house() as h:
            pairs = [h.begin() for _ in range(NUM_THREADS + 2)]
            await begun(*(work for work, _ in pairs[:NUM_THREADS]))
            assert h.pool.fail(ModelUnloaded("gone")) == NUM_THREADS + 2
            for _, task in pairs:
                with pytest.raises(ModelUnloaded, match="gone"):
                    await task
            assert h.ends == 2, "threads work on"
            assert h.pool.fail(ModelUnloaded("gone")) == 0

    run(test)


def test_a_closed_pool_takes_nothing_and_hands_out_nothing() -> None:
    async def test() -> None:
        async with house() as h:
            work, task = h.begin("late")
            await begun(work)
            h.pool.close(ModelUnloaded("closed"))
            work.may_end.set()
            with pytest.raises(ModelUnloaded):
                await task
            _, task = h.begin()
            with pytest.raises(ModelUnloaded):
                await task

    run(test)


def test_what_waits_is_bounded_and_a_flood_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation_module, "MAX_WAITING", 10 * LARGE)

    async def test() -> None:
        async with house() as h:
            on_thread, _ = h.begin(0, 2 * LARGE, "flood")
            await begun(on_thread)
            flood = [h.begin(i, 2 * LARGE, "flood")[1] for i in range(4)]
            await asyncio.sleep(0)
            _, refused = h.begin("x", 4 * LARGE, "flood")
            with pytest.raises(QueueFull) as error:
                await refused
            assert error.value.retry_after_seconds
            other, done = h.begin("other", 4 * LARGE, "other")
            await asyncio.wait([flood[-1]])
            assert isinstance(flood[-1].exception(), QueueFull)
            small, quick = h.begin("small", 1, "third")
            for work in (on_thread, other, small):
                work.may_end.set()
            assert await quick == "small", "others have a bound of their own"
            for work in h.works:
                work.may_end.set()
            assert await done == "other"
            await asyncio.gather(*flood, return_exceptions=True)
            alone, task = h.begin("huge", 100 * LARGE)
            alone.may_end.set()
            assert await task == "huge", "whatever its size, it may wait alone"

    run(test)


def test_quick_work_is_refused_once_the_pool_is_closed_and_ends_once_however_it_ends() -> None:
    ends: list[str] = []

    def broken() -> None:
        raise ValueError("no text")

    async def test() -> None:
        pool = PreparationPool("test")
        with pytest.raises(ValueError, match="no text"):
            await pool.run(broken, size=1, on_end=partial(ends.append, "failed"), is_quick=True)
        pool.close(ModelUnloaded("gone"))
        with pytest.raises(ModelUnloaded):
            await pool.run(broken, size=1, on_end=partial(ends.append, "closed"), is_quick=True)

    run(test)
    assert ends == ["failed", "closed"]


@pytest.mark.parametrize(
    ("size", "is_quick", "is_at_once"),
    [(QUICK, True, True), (QUICK + 1, True, False), (QUICK, False, False)],
)
def test_what_is_quick_and_short_needs_no_thread(
    size: int, is_quick: bool, is_at_once: bool
) -> None:
    async def test() -> None:
        pool = PreparationPool("test")
        thread = await pool.run(threading.get_ident, size=size, is_quick=is_quick)
        assert (thread == threading.get_ident()) is is_at_once
        pool.close(ModelUnloaded("gone"))

    run(test)


def test_what_is_quick_does_not_wait_for_those_that_have_the_threads() -> None:
    async def test() -> None:
        house = House(ManualClock())
        busy = [house.begin() for _ in range(NUM_THREADS + 1)]
        assert await house.pool.run(lambda: "done", size=1, is_quick=True) == "done"
        for work, _ in busy:
            work.may_end.set()
        await asyncio.gather(*(task for _, task in busy))
        house.pool.close(ModelUnloaded("gone"))

    run(test)
