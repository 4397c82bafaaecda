"""Liveness, readiness and metrics."""

from __future__ import annotations

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.domain import EngineStats


@pytest.mark.parametrize(
    ("silence", "status", "word"), [(None, 200, "alive"), (119, 200, "alive"), (121, 503, "hung")]
)
def test_liveness_is_the_silence_of_running_requests(
    client: TestClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    silence: float | None,
    status: int,
    word: str,
) -> None:
    monkeypatch.setattr(engine, "stats", lambda: EngineStats(1, silence))
    for path in ("/health", "/health/live"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (status, word)


def test_readiness_tells_of_draining(client: TestClient) -> None:
    assert client.get("/health/ready").status_code == 200
    client.app.state.container.service.begin_drain()
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")
    assert answer.headers["retry-after"]
    assert client.get("/health").status_code == 200


def test_http_requests_are_counted_by_route_and_not_by_path(client: TestClient) -> None:
    client.get("/v1/models/fake")
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    assert 'route="/v1/models/{model:path}",status="200"' in text
    assert 'route="unmatched",status="404"' in text
    assert "nowhere" not in text
