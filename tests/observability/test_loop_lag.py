"""The event loop's lag is what a blocked loop shows."""

from __future__ import annotations

import asyncio
import time

from llmserve.observability.loop_lag import watch_loop_lag


def test_a_blocked_loop_is_reported() -> None:
    async def test() -> None:
        seen: list[float] = []
        reported = asyncio.Event()

        def observe(seconds: float) -> None:
            seen.append(seconds)
            reported.set()

        watch = asyncio.create_task(watch_loop_lag(observe, interval_seconds=0.01))
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - the very thing that it must notice
        async with asyncio.timeout(5):
            await reported.wait()
        watch.cancel()
        assert seen[0] >= 0.08

    asyncio.run(test())
