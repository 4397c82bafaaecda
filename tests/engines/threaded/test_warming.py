"""Warm-up and closing of the threaded engine: what is under way ends, and takes no place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from engines.threaded.bench import (
    POOL,
    PROMPT,
    WARMER,
    Barrier,
    bench,
)

from llmserve.domain import (
    Finish,
    LoadProgress,
    ModelSpec,
)
from llmserve.engines.options import EngineOptions
from llmserve.engines.threaded.engine import ThreadedEngine
from llmserve.errors import (
    GenerationFailed,
    ModelBroken,
    ModelUnloaded,
    OutOfMemory,
)

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_closing_while_loading_interrupts_the_load(tiny_model: Path) -> None:
    async def test() -> None:
        may_go_on, fetching = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def fetch(spec: ModelSpec, on_progress: Callable[[LoadProgress], None]) -> Path:
            loop.call_soon_threadsafe(fetching.set)
            assert may_go_on.wait(20)
            return tiny_model

        engine = ThreadedEngine(
            ModelSpec("tiny"), EngineOptions(fetch, max_running=1, torch_threads=1), why="test"
        )
        loading = asyncio.create_task(engine.load(lambda progress: None))
        await fetching.wait()
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        may_go_on.set()
        await closing
        with pytest.raises(ModelBroken, match="shutdown"):
            await loading

    run(test)


@pytest.mark.parametrize(
    ("prompts", "prefixes"), [(["Hello", "Hi"], []), ([], ["Hello there. "] * 2)]
)
def test_closing_ends_a_warm_up_that_is_under_way(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[str], prefixes: list[str]
) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            barrier = Barrier(b, monkeypatch, WARMER)
            warming = asyncio.create_task(b.engine.warm(prompts, prefixes))
            await barrier.reached.wait()
            closing = asyncio.create_task(b.engine.close())
            await asyncio.sleep(0)
            barrier.open()
            await closing
            with pytest.raises(ModelUnloaded, match="tiny"):
                await warming
            with pytest.raises(ModelUnloaded, match="tiny"):
                await b.engine.warm(prompts, prefixes)

    run(test)


def test_closing_while_loading_warms_up_ends_the_load(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        engine = ThreadedEngine(
            ModelSpec("tiny", path=tiny_model),
            EngineOptions(lambda spec, on_progress: tiny_model, max_running=1, torch_threads=1),
            why="test",
        )
        warming_up = asyncio.Event()

        def on_progress(progress: LoadProgress) -> None:
            if progress.stage == "warm-up":  # told on the event loop's thread
                warming_up.set()

        loading = asyncio.create_task(engine.load(on_progress))
        await warming_up.wait()
        await engine.close()
        with pytest.raises(ModelUnloaded, match="tiny"):
            await loading

    run(test)


def test_a_warm_up_that_nobody_waits_for_stops_within_a_token(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            barrier = Barrier(b, monkeypatch, WARMER)
            warming = asyncio.create_task(b.engine.warm(["Hello", "Hi"], ["Hello there. "]))
            await barrier.reached.wait()
            warming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await warming
            barrier.open()
            await asyncio.to_thread(b.engine._warmer.submit(lambda: None).result, 20)
            assert barrier.num_passes == 1

    run(test)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(RuntimeError("bug"), GenerationFailed), (MemoryError(), OutOfMemory)],
)
def test_a_warm_up_that_fails_is_told_and_the_engine_serves_on(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    expected: type[Exception],
) -> None:
    def failing(*args: Any, **kwargs: Any) -> Any:
        raise raised

    async def test() -> None:
        async with bench(tiny_model) as b:
            with monkeypatch.context() as patch:
                patch.setattr(b.model, "forward", failing)
                with pytest.raises(expected):
                    await b.engine.warm(["Hello"], [])
            assert len(await b.tokens()) == 12
            assert len((await b.engine.warm(["Hello"], [])).prompt_seconds) == 1

    run(test)


def test_warming_takes_no_place_and_the_cache_in_use_is_told(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with bench(tiny_model, max_running=1) as b:
            assert b.engine.stats().cache_usage == 0.0
            barrier = Barrier(b, monkeypatch, POOL)
            _, events = b.start(max_tokens=3)
            await barrier.reached.wait()
            report = await b.engine.warm(["Hello", "Hi"], ["Hello there, how are you? "])
            assert len(report.prompt_seconds) == 2
            assert report.prefix_problems == (None,)
            stats = b.engine.stats()
            assert stats.running == 1
            assert stats.cache_usage == len(PROMPT) / b.engine.info.max_context
            barrier.open()
            assert isinstance((await events())[-1], Finish)
            assert b.engine.stats().cache_usage == 0.0

    run(test)
