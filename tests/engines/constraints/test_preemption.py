"""A constrained answer that is computed again, as blocks ran out, goes on where it was."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from bounded import run
from engines.batching.asked import engine_of
from engines.constraints.test_engines import finished, prepared

from llmserve.domain import Constraint, ConstraintKind, EngineKind

pytestmark = pytest.mark.usefixtures("no_thread_left")
WORDS = Constraint(ConstraintKind.REGEX, "([a-z]{1,3}[0-9]){40}")


def test_answers_are_the_same_with_and_without_preemption(tiny_model: Path) -> None:
    async def test() -> None:
        texts: list[list[str]] = []
        for cache_bytes in (2**24, 2**17):
            async with engine_of(
                tiny_model, EngineKind.BATCHING, kv_cache_bytes=cache_bytes
            ) as engine:
                tasks = await prepared(engine, [WORDS] * 6, max_tokens=200, seed=3)
                found = await asyncio.gather(*(finished(engine, task) for task in tasks))
                texts.append([answer.text for answer in found])
                assert (engine.stats().preemptions > 0) == (cache_bytes == 2**17)
        assert texts[0] == texts[1]
        assert all(re.fullmatch(WORDS.source, text) for text in texts[1])

    run(test)
