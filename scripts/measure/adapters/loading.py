"""A stream's inter-token latency while adapters are loaded and unloaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from llmserve.domain import AdapterSpec, Cancelled, Delta, Failed, Finish
from llmserve.engines.engine import Generator
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from measure.adapters.steps import prepared

STREAM_TOKENS = 1900


async def itl_beside_loading(
    engine: Generator, folders: Sequence[Path], seconds: float
) -> tuple[list[float], list[float], list[float]]:
    """Intervals between tokens as their reader sees them, alone and while an adapter is loaded
    every second; and how long each load took."""
    quiet = await _intervals(engine, seconds / 2)
    loading = asyncio.create_task(_load(engine, folders, seconds))
    beside = await _intervals(engine, seconds)
    return quiet, beside, await loading


async def _load(engine: Generator, folders: Sequence[Path], seconds: float) -> list[float]:
    found = []
    for number in range(int(seconds)):
        folder = folders[number % len(folders)]
        begun = time.perf_counter()
        await engine.load_adapter(AdapterSpec("beside", path=folder), folder)
        found.append(time.perf_counter() - begun)
        await engine.unload_adapter("beside")
        await asyncio.sleep(max(0.0, begun + 1 - time.perf_counter()))
    return found


async def _intervals(engine: Generator, seconds: float) -> list[float]:
    """Streams one after another for so long."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        (task,) = await prepared(engine, [None], STREAM_TOKENS)
        done = asyncio.Event()
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
        engine.start(job)
        last: float | None = None
        while not isinstance(event := await job.mailbox.next(), Finish | Failed | Cancelled):
            now = time.perf_counter()
            if isinstance(event, Delta):
                found += [] if last is None else [now - last]
                last = now
            if now > until:
                job.cancel()
        await done.wait()
    return found
