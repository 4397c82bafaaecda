"""Timers of a process that was asleep when they were due."""

from __future__ import annotations

import asyncio

import pytest
from bounded import run
from manual_clock import ManualClock

from llmserve.clock import AwakeClock
from llmserve.timer import Timer, awake_timeout


def test_a_timer_that_was_due_in_a_pause_waits_for_the_rest_of_its_time() -> None:
    async def test() -> None:
        clock = ManualClock()
        fired = asyncio.Event()
        timer = Timer(0.02, fired.set, clock)
        # The event loop's clock goes on, ours stands still: it looks again and again.
        for _ in range(3):
            due = timer._handle
            while timer._handle is due:
                await asyncio.sleep(0.001)
            assert not fired.is_set()
        clock.now += 0.02
        await fired.wait()

    run(test)


def test_a_cancelled_timer_never_fires() -> None:
    async def test() -> None:
        fired: list[str] = []
        timer = Timer(0.0, lambda: fired.append("it"))
        timer.cancel()
        timer.cancel()
        over = asyncio.Event()
        Timer(0.0, over.set)
        await over.wait()
        assert fired == []

    run(test)


def test_a_timeout_ends_what_takes_too_long_and_nothing_else() -> None:
    async def test() -> None:
        clock = AwakeClock(ManualClock())
        async with awake_timeout(60, clock):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with awake_timeout(0.0, clock):
                await asyncio.Event().wait()

    run(test)
