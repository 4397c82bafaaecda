"""The application in this process with batches, over a fake engine that answers at once."""

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
def batching(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """Two keys, small bounds, and calls to one place."""
    engine.capacity = 4
    start = engine.start

    def start_and_say(job: Job) -> None:
        start(job)

        def say() -> None:
            engine.say(job, "ok")
            engine.finish(job)

        asyncio.get_running_loop().call_soon(say)

    monkeypatch.setattr(engine, "start", start_and_say)
    settings = Settings(
        drain_timeout_seconds=0,
        api_keys=("first", "second"),  # type: ignore[arg-type]
        jobs_dir=tmp_path / "jobs",
        max_upload_bytes=200_000,
        max_body_bytes=20_000,
        jobs_key_max_bytes=2**20,
        jobs_key_max_batches=2,
        webhook_urls=("http://127.0.0.1:9/hooks",),
        webhook_secret="secret",  # type: ignore[arg-type]
    )
    headers = {"Authorization": "Bearer first"}
    with TestClient(
        create_app(settings), raise_server_exceptions=False, headers=headers
    ) as running:
        yield running
