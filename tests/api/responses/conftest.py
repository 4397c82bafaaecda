"""The application in this process with a store of responses, over a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.app import create_app
from llmserve.engines.job import Job
from llmserve.settings import Settings


@pytest.fixture
def keeping(engine: FakeEngine, tmp_path: Path) -> Iterator[TestClient]:
    """Two keys, and a store."""
    engine.capacity = 4
    settings = Settings(
        drain_timeout_seconds=0,
        api_keys=("first", "second"),  # type: ignore[arg-type]
        responses_store=tmp_path / "responses.db",
    )
    headers = {"Authorization": "Bearer first"}
    with TestClient(
        create_app(settings), raise_server_exceptions=False, headers=headers
    ) as running:
        yield running


@pytest.fixture
def talkative(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Says "ok" as soon as it is asked."""
    start = engine.start

    def start_and_say(job: Job) -> None:
        start(job)

        def say() -> None:
            engine.say(job, "ok")
            engine.finish(job)

        asyncio.get_running_loop().call_soon(say)

    monkeypatch.setattr(engine, "start", start_and_say)
    return engine
