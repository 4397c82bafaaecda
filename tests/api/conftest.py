"""The application in this process, over a fake engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_encoding import FakeEncoding
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.app import create_app
from llmserve.bootstrap import models, server
from llmserve.domain import ModelSpec
from llmserve.registry.registry import Registry
from llmserve.service import Service
from llmserve.settings import Settings


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Stands where bootstrap would build a real one."""
    fake = FakeEngine()
    monkeypatch.setattr(server, "build_registry", lambda *_, **__: Registry([ModelSpec("fake")]))
    monkeypatch.setattr(models, "build_engine", lambda *_: fake)
    return fake


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[TestClient]:
    """A client of the started application; it raises nothing, as a real one would not."""
    settings = Settings(cors_origins=("https://ui.example",), drain_timeout_seconds=1)
    with TestClient(create_app(settings), raise_server_exceptions=False) as running:
        yield running


@pytest.fixture
def started(engine: FakeEngine) -> Iterator[TestClient]:
    """A client on this very machine, as `/admin` wants it, with pages of one origin."""
    settings = Settings(cors_origins=("https://ui.example",), drain_timeout_seconds=1)
    with TestClient(
        create_app(settings), base_url="http://localhost", client=("127.0.0.1", 50_000)
    ) as running:
        yield running


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> FakeEncoding:
    """Stands where requests for numbers are served."""
    fake = FakeEncoding()

    async def encode(service: Service, request, caller):  # type: ignore[no-untyped-def]
        return await fake.encode(request, caller)

    monkeypatch.setattr(Service, "encode", encode)
    return fake
