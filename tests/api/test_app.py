"""What every route has from the application: errors, CORS, ids."""

from __future__ import annotations

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient
from loguru import logger

from llmserve.domain import Prompt


def test_a_bug_is_a_500_in_the_shape_that_tells_nothing(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(prompt: Prompt) -> list[int]:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(engine.tokenizer, "encode", broken)
    headers = {"X-Request-ID": "r-500"}
    answer = client.post("/generate", json={"prompt": "x"}, headers=headers)
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "r-500"
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


def test_cors_is_for_the_origins_of_the_setting(client: TestClient) -> None:
    preflight = {"Access-Control-Request-Method": "POST"}
    for origin, allowed in (("https://ui.example", True), ("https://evil.example", False)):
        answer = client.options("/generate", headers=preflight | {"Origin": origin})
        assert ("access-control-allow-origin" in answer.headers) is allowed
    answer = client.get("/health", headers={"Origin": "https://ui.example"})
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


PAGE = {"Origin": "https://ui.example"}


def test_a_page_may_read_every_refusal_and_every_bug(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(prompt: Prompt) -> list[int]:
        raise ZeroDivisionError

    monkeypatch.setattr(engine.tokenizer, "encode", broken)
    answers = {
        400: client.get("/health", headers=PAGE | {"X-Request-ID": "a b"}),
        404: client.get("/nowhere", headers=PAGE),
        500: client.post("/generate", json={"prompt": "x"}, headers=PAGE),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]
        assert answer.headers["x-request-id"] not in ("", "a b")
        exposed = answer.headers["access-control-expose-headers"]
        assert {"X-Request-ID", "Retry-After"} <= set(exposed.split(", "))
    assert answers[400].json()["error"]["param"] == "X-Request-ID"
    counted = client.get("/metrics").text
    assert 'llmserve_http_requests_total{method="GET",route="unmatched",status="400"}' in counted


READABLE = [
    "/health",
    "/health/live",
    "/health/ready",
    "/v1/models",
    "/v1/models/fake",
    "/",
    "/api/version",
    "/api/tags",
    "/api/ps",
    "/info",
    "/ping",
    "/version",
    "/metrics",
    "/admin/status",
    "/docs",
    "/openapi.json",
]


def test_what_can_be_read_can_be_asked_about(started: TestClient) -> None:
    for path in READABLE:
        told, whole = started.head(path), started.get(path)
        assert (told.status_code, told.content) == (whole.status_code, b""), path
        assert told.headers["content-type"] == whole.headers["content-type"]
    assert started.head("/v1/models/nobody").status_code == 404
    for path in ("/stream?prompt=x", "/generate", "/admin/events", "/v1/completions"):
        assert started.head(path).status_code == 405, path
    preflight = PAGE | {"Access-Control-Request-Method": "HEAD"}
    assert started.options("/v1/models", headers=preflight).status_code == 200


def test_the_access_line_says_why_a_request_was_refused(client: TestClient) -> None:
    lines: list[dict[str, object]] = []
    sink = logger.add(lambda message: lines.append(message.record["extra"]), level="INFO")
    try:
        body = {"prompt": "hush", "temperature": 9}
        assert client.post("/v1/completions", json=body).status_code == 400
        assert client.post("/v1/completions", content=b"{hush").status_code == 400
        assert client.get("/nowhere").status_code == 404
        assert client.get("/openapi.json").status_code == 200
    finally:
        logger.remove(sink)
    refused, malformed, unknown, fine = (line for line in lines if "status" in line)
    assert (refused["code"], refused["param"]) == ("invalid_request", "temperature")
    assert "temperature" in str(refused["reason"])
    assert malformed["code"] == "invalid_request"
    assert (unknown["code"], "param" in unknown) == ("not_found", False)
    assert not {"code", "reason"} & set(fine)
    assert "hush" not in str(lines)


def test_a_server_below_a_prefix_says_so_in_its_reference(client: TestClient) -> None:
    assert "servers" not in client.get("/openapi.json").json()
    below = TestClient(client.app, root_path="/llm")
    assert below.get("/openapi.json").json()["servers"] == [{"url": "/llm"}]


def test_a_request_id_is_echoed_or_made(client: TestClient) -> None:
    assert client.get("/health", headers={"X-Request-ID": "a-1"}).headers["x-request-id"] == "a-1"
    made = {client.get("/health").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2


def test_draining_and_loading_are_answered_with_retry_after(client: TestClient) -> None:
    client.app.state.container.service.begin_drain()
    answer = client.post("/v1/completions", json={"prompt": "x"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "shutting_down"
