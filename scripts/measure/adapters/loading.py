"""A stream's inter-token latency while adapters are loaded and unloaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from llmserve.domain import AdapterSpec
from llmserve.engines.engine import Generator
from measure.jobs import intervals


async def itl_beside_loading(
    engine: Generator, folders: Sequence[Path], seconds: float
) -> tuple[list[float], list[float], list[float]]:
    """Intervals between tokens as their reader sees them, alone and while an adapter is loaded
    every second; and how long each load took."""
    quiet = await intervals(engine, seconds / 2, temperature=0.0)
    loading = asyncio.create_task(_load(engine, folders, seconds))
    beside = await intervals(engine, seconds, temperature=0.0)
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
