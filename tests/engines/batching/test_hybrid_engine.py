"""The batching engine as the service sees it, with a model that keeps recurrent states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bounded import run
from engines.batching.asked import Asked, engine_of, generated
from loguru import logger

from llmserve.domain import EngineKind
from llmserve.engines.batching.compute import on_cpu

PROMPT = list(range(5, 105))
STATE = 2 * 32 * 3 * 4
"""Bytes: of two layers of three numbers for each of 32 channels."""


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), format="{message}")
    yield lines
    logger.remove(handler)


def test_a_prompt_begins_with_the_state_that_another_left(hybrid_model: Path) -> None:
    expected = generated(hybrid_model, PROMPT, 3)

    async def test() -> None:
        async with engine_of(hybrid_model) as engine:
            info = engine.info
            assert info.kind is EngineKind.BATCHING
            assert info.num_states == 16
            assert info.state_bytes == (2 * 8 + 8 + 2) * STATE < info.cache_bytes
            for cached in (0, 96):
                asked = Asked(engine, PROMPT, 3)
                assert await asked.tokens() == expected
                assert asked.job.cached_tokens == cached
            stats = engine.stats()
            assert (stats.states_used, stats.states_total) == (0, 16)
            assert (stats.checkpoints, stats.checkpoint_hits) == (1, 1)

    run(test)


def test_without_prefix_caching_no_state_is_kept(hybrid_model: Path) -> None:
    async def test() -> None:
        async with engine_of(hybrid_model, prefix_caching=False) as engine:
            assert engine.info.num_states == 8
            for _ in range(2):
                asked = Asked(engine, PROMPT, 2)
                await asked.tokens()
                assert asked.job.cached_tokens == 0
            assert engine.stats().checkpoints == 0

    run(test)


def test_a_prefix_is_pinned_from_where_a_state_is_kept_on(hybrid_model: Path) -> None:
    async def test() -> None:
        async with engine_of(hybrid_model) as engine:
            report = await engine.warm((), ("once upon " * 60, "a few words that are too short"))
            assert report.prefix_tokens[0] >= 64
            assert report.prefix_tokens[1] == 0
            assert "it takes 64 to keep any" in str(report.prefix_problems[1])
            assert engine.stats().checkpoints >= 1

    run(test)


def test_where_memory_is_short_fewer_requests_run_and_the_log_says_so(
    hybrid_model: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(on_cpu, "_free_bytes", lambda: 700_000)

    async def test() -> None:
        async with engine_of(hybrid_model, max_running=200) as engine:
            assert engine.capacity < 200
            assert f"{engine.capacity} requests run at once, not 200" in "".join(logged)
            several = [Asked(engine, (5, 6, 7), 3) for _ in range(engine.capacity)]
            for asked in several:
                assert len(await asked.tokens()) == 3

    run(test)
