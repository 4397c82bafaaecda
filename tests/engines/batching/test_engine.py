"""The batching engine as the service sees it, with a tiny model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from engines.batching.asked import Asked, engine_of, generated, tokenizer_of

from llmserve.domain import (
    Cancelled,
    Conversation,
    Delta,
    EngineKind,
    LoadProgress,
    Message,
    ModelSpec,
    Started,
)
from llmserve.engines.batching.compute import support
from llmserve.engines.batching.loop import StepLoop
from llmserve.engines.factory import build_engine
from llmserve.engines.options import EngineOptions
from llmserve.errors import ModelBroken, ModelUnloaded

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_a_model_that_batching_cannot_run_is_served_by_threads_with_the_reason(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "position_switch", lambda config: 64)

    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            assert engine.info.kind is EngineKind.THREADED
            assert "over 64 tokens" in engine.info.why
            assert engine.capacity == 8
            assert len(await Asked(engine, (5, 6), 3).tokens()) == 3
        with pytest.raises(ModelBroken, match="set engine to auto or threaded"):
            async with engine_of(tiny_model, EngineKind.BATCHING):
                pass

    run(test)


def test_closing_while_it_loads_ends_the_load(tiny_model: Path) -> None:
    async def test() -> None:
        spec = ModelSpec("tiny", path=tiny_model)
        engine = build_engine(spec, EngineOptions(lambda spec, report: tiny_model, torch_threads=1))
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def report(progress: LoadProgress) -> None:
            loop.call_soon_threadsafe(begun.set)

        loading = asyncio.create_task(engine.load(report))
        await begun.wait()
        await engine.close()
        with pytest.raises((ModelBroken, ModelUnloaded, RuntimeError)):
            await loading

    run(test)


def test_closing_cancels_what_runs_and_takes_no_more(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            asked = Asked(engine, (5, 6), 1500)
            assert isinstance(await asked.job.mailbox.next(), Started)
            closing = asyncio.create_task(engine.close())
            assert isinstance((await asked.events())[-1], Cancelled)
            await closing
            with pytest.raises((RuntimeError, AssertionError)):
                Asked(engine, (5, 6), 3)

    run(test)


def test_a_cancelled_job_is_let_go_of_within_a_step(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            asked = Asked(engine, (5, 6), 1500)
            while not isinstance(await asked.job.mailbox.next(), Delta):
                pass
            asked.job.cancel()
            await asked.done.wait()
            assert isinstance(asked.job.mailbox.terminal, Cancelled)
            assert asked.job.wasted_tokens <= 1
            assert engine.stats().running == 0

    run(test)


def test_what_it_tells_of_itself(tiny_model: Path) -> None:
    async def test() -> None:
        steps: list[Any] = []
        async with engine_of(
            tiny_model, on_step=lambda model, report: steps.append(report)
        ) as engine:
            info = engine.info
            assert info.kind is EngineKind.BATCHING
            assert "auto" in info.why
            assert info.cache_bytes == engine.stats().blocks_total * 16 * 2 * 2 * 2 * 16 * 4
            before = len(steps)
            await Asked(engine, (5, 6, 7), 4).tokens()
            assert [step.tokens for step in steps[before:]] == [3, 1, 1, 1]
            stats = engine.stats()
            assert (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0)

    run(test)


def test_the_step_loop_is_the_only_thread_that_keeps_a_team_of_openmp(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_of(tiny_model):
            names = [thread.name for thread in threading.enumerate()]
            assert [name for name in names if name.startswith("generate-")] == ["generate-tiny_0"]

    run(test)


def test_many_at_once_get_what_each_gets_alone(tiny_model: Path) -> None:
    prompts = [[7 * n + k for k in range(1, n + 2)] for n in range(8)]
    expected = [generated(tiny_model, prompt, 10) for prompt in prompts]

    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            asked = [Asked(engine, prompt, 10) for prompt in prompts]
            assert [await each.tokens() for each in asked] == expected

    run(test)


def test_a_seed_gives_the_same_answer_alone_and_in_a_crowd(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            wanted = {"temperature": 1.0, "seed": 3, "top_p": 0.9}
            alone = await Asked(engine, (5, 6, 7), 20, **wanted).tokens()
            crowd = [Asked(engine, (9, n), 20, temperature=1.5) for n in range(4)]
            again = Asked(engine, (5, 6, 7), 20, **wanted)
            assert await again.tokens() == alone
            for each in crowd:
                await each.tokens()

    run(test)


def test_a_second_prompt_that_begins_alike_is_read_from_the_cache(tiny_model: Path) -> None:
    prompt = list(range(5, 105))

    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            first, second = Asked(engine, prompt, 5), None
            tokens = await first.tokens()
            second = Asked(engine, prompt, 5)
            events = await second.events()
            assert events[0] == Started(100, cached_tokens=96)
            assert second.job.usage.cached_tokens == 96
            assert [i for e in events if isinstance(e, Delta) for i in e.token_ids] == tokens
        async with engine_of(tiny_model, prefix_caching=False) as engine:
            await Asked(engine, prompt, 5).tokens()
            again = Asked(engine, prompt, 5)
            assert await again.tokens() == tokens
            assert again.job.cached_tokens == 0
            report = await engine.warm((), ("A prefix that is long enough for a block. " * 3,))
            assert report.prefix_problems == ("prefix_caching is off",)

    run(test)


def test_another_salt_finds_nothing_of_what_was_cached(tiny_model: Path) -> None:
    prompt = list(range(5, 105))

    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            cached = []
            for salt in ("", "mine", "yours", "mine", ""):
                asked = Asked(engine, prompt, 2, salt=salt)
                await asked.tokens()
                cached.append(asked.job.cached_tokens)
            assert cached == [0, 0, 0, 96, 96]

    run(test)


def test_a_pinned_prefix_is_there_before_anyone_asked(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            system = Message("system", "You are a patient teacher. " * 12)
            report = await engine.warm(
                ("Hello",), (Conversation((system,)), "short", "long " * 5000)
            )
            assert len(report.prompt_seconds) == 1
            assert report.prefix_tokens[0] >= 32
            assert report.prefix_problems[0] is None
            assert report.prefix_tokens[1:] == (0, 0)
            assert "lengthen it" in str(report.prefix_problems[1])
            assert "shorten it" in str(report.prefix_problems[2])
            question = tokenizer_of(tiny_model).encode(
                Conversation((system, Message("user", "Why?"))),
            )
            asked = Asked(engine, question, 2)
            await asked.tokens()
            assert asked.job.cached_tokens == report.prefix_tokens[0]

    run(test)


def test_a_job_that_ends_while_it_is_handed_over_leaves_its_place(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            with monkeypatch.context() as patch:
                patch.setattr(StepLoop, "submit", lambda loop, job: job.on_done())
                asked = Asked(engine, (5, 6), 2)
            assert asked.done.is_set()
            assert engine.stats().running == 0

    run(test)


def test_warming_an_engine_that_is_closed_is_refused(tiny_model: Path) -> None:
    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            warm: Callable[..., Any] = engine.warm
            await engine.close()
            with pytest.raises((ModelUnloaded, AssertionError)):
                await warm(("Hello",), ())

    run(test)


def test_both_engines_say_the_same(tiny_model: Path) -> None:
    async def texts(kind: EngineKind) -> list[str]:
        async with engine_of(tiny_model, kind) as engine:
            asked = [
                Asked(engine, tokenizer_of(tiny_model).encode(p), 24) for p in ("Hello", "A fox")
            ]
            return [
                "".join(e.text for e in await each.events() if isinstance(e, Delta))
                for each in asked
            ]

    async def test() -> None:
        assert await texts(EngineKind.BATCHING) == await texts(EngineKind.THREADED)

    run(test)
