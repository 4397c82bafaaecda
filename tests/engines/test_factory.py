"""Engines as large as this process may make them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from llmserve.domain import EngineInfo, EngineKind, ModelSpec
from llmserve.engines import factory, options
from llmserve.engines.batching.compute import on_cpu
from llmserve.engines.options import EngineOptions


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}")
    yield lines
    logger.remove(sink)


def load(folder: Path, kind: EngineKind, **wanted: float) -> EngineInfo:
    async def run() -> EngineInfo:
        engine = factory.build_engine(
            ModelSpec("tiny", path=folder, engine=kind),
            EngineOptions(lambda spec, report: folder, **wanted),  # type: ignore[arg-type]
        )
        await engine.load(lambda progress: None)
        try:
            return engine.info
        finally:
            await engine.close()

    return asyncio.run(run())


def test_threads_are_those_that_the_quota_leaves(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setattr(options, "processors", lambda: 6)
    load(tiny_model, EngineKind.THREADED, max_running=2)
    assert any("2 at once, 3 CPU threads each" in line for line in log)
    load(tiny_model, EngineKind.BATCHING, max_running=2, worker_share=0.5)
    assert any("2 at once, 3 CPU threads\n" in line for line in log)


def test_the_cache_fits_what_the_group_has_left(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_cpu, "free_memory", lambda: 2**20)
    assert load(tiny_model, EngineKind.BATCHING).cache_bytes < 2**19
