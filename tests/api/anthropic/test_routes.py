"""The routes over a fake engine: each way to fail in Anthropic's shape, its headers, streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient
from httpx import Response

from llmserve.admission.quota import Quota, Remainder
from llmserve.api.app import create_app
from llmserve.engines.job import Job
from llmserve.errors import GenerationFailed, LLMServeError
from llmserve.settings import Settings

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
HELLO: dict[str, Any] = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
JSON_BODY = {"Content-Type": "application/json"}


@pytest.fixture
def keyed(engine: FakeEngine) -> Iterator[TestClient]:
    """Keys are asked for, and bodies are small."""
    settings = Settings(api_keys=("k1", "schlüssel"), max_body_bytes=2000, drain_timeout_seconds=1)
    with TestClient(create_app(settings), raise_server_exceptions=False) as running:
        yield running


@pytest.fixture
def answers(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What the engine says to every request, and with which error it ends, if any."""

    def script(*texts: str, error: LLMServeError | None = None) -> None:
        start = engine.start

        def speak(job: Job) -> None:
            for text in texts:
                engine.say(job, text)
            engine.finish(job, error)

        def start_and_speak(job: Job) -> None:
            start(job)
            asyncio.get_running_loop().call_soon(speak, job)

        monkeypatch.setattr(engine, "start", start_and_speak)

    return script


def error_of(answer: Response, status: int, kind: str) -> dict[str, Any]:
    """The inner object of an error in the shape, with the headers that all responses have."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    return dict(body["error"])


def events(answer: Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def test_an_answer_whole_and_streamed(client: TestClient, answers: Callable[..., None]) -> None:
    answers("so")
    whole = client.post(MESSAGES, json=HELLO, headers={"X-Request-ID": "r1"})
    assert whole.status_code == 200
    assert (whole.json()["id"], whole.headers["request-id"]) == ("msg_r1", "r1")
    assert whole.json()["content"] == [{"type": "text", "text": "so"}]
    streamed = client.post(MESSAGES, json=HELLO | {"stream": True})
    assert [event["type"] for event in events(streamed)] == [
        "message_start", "ping", "content_block_start", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip


def test_a_failure_is_a_status_or_the_last_event(
    client: TestClient, answers: Callable[..., None]
) -> None:
    answers("so", error=GenerationFailed("it broke"))
    assert error_of(client.post(MESSAGES, json=HELLO), 500, "api_error")["message"] == "it broke"
    streamed = client.post(MESSAGES, json=HELLO | {"stream": True})
    assert streamed.status_code == 200
    *before, last = events(streamed)
    assert [event["type"] for event in before] == [
        "message_start", "ping", "content_block_start", "content_block_delta",
    ]  # fmt: skip
    assert (last["type"], last["error"]["message"]) == ("error", "it broke")
    assert last["request_id"] == streamed.headers["request-id"]


def test_tokens_are_counted_however_many_they_are(client: TestClient, engine: FakeEngine) -> None:
    for count in (2, engine.info.max_context + 5):
        turns = [{"role": ("user", "assistant")[i % 2], "content": "x"} for i in range(count)]
        answer = client.post(COUNT, json={"messages": turns, "own": 1})
        assert (answer.status_code, answer.json()) == (200, {"input_tokens": count})
        assert answer.headers["x-ignored-fields"] == "own"
    assert engine.started == []
    answer = client.post(MESSAGES, json={"messages": turns, "max_tokens": 1})
    told = error_of(answer, 400, "invalid_request_error")["message"]
    assert told == "prompt is too long: 25 tokens > 19 maximum"


def test_who_drains_counts_no_more(client: TestClient) -> None:
    client.app.state.container.service.begin_drain()  # type: ignore[attr-defined]
    for path in (COUNT, MESSAGES):
        answer = client.post(path, json=HELLO)
        assert error_of(answer, 503, "overloaded_error")["details"]["error_code"] == "shutting_down"
        assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "the body is not valid JSON"),
        ("[]", "the body must be a JSON object"),
        ("{}", "Field required"),
        ('{"messages": 7, "max_tokens": 1}', "messages: Input should be a valid list"),
        ("[" * 100 + "]" * 100, "nested deeper"),
    ],
)
def test_a_bad_body_is_refused(client: TestClient, path: str, body: str, words: str) -> None:
    answer = client.post(path, content=body, headers=JSON_BODY)
    assert words in error_of(answer, 400, "invalid_request_error")["message"]


def test_a_model_that_is_not_there(client: TestClient) -> None:
    for path in (MESSAGES, COUNT):
        error = error_of(client.post(path, json=HELLO | {"model": "x"}), 404, "not_found_error")
        assert error["details"] == {"error_code": "model_not_found", "param": "model"}


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods(client: TestClient, path: str, method: str) -> None:
    answer = client.request(method, path)
    assert f"does not take {method}" in error_of(answer, 405, "invalid_request_error")["message"]
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_is_not_served_below(client: TestClient, method: str) -> None:
    for path in ("/", "/nowhere", "/count_tokens/x"):
        answer = client.request(method, MESSAGES + path)
        assert "there is no route" in error_of(answer, 404, "not_found_error")["message"]
    for path in ("/batches", "/batches/b1/results"):
        answer = client.request(method, MESSAGES + path)
        assert "no message batches" in error_of(answer, 404, "not_found_error")["message"]


def test_a_stranger_is_told_so_first(keyed: TestClient) -> None:
    for path in (MESSAGES, COUNT, MESSAGES + "/batches", MESSAGES + "/nowhere"):
        answer = keyed.post(path, content="{", headers=JSON_BODY)
        message = error_of(answer, 401, "authentication_error")["message"]
        assert "x-api-key" in message
        answer = keyed.post(path, json=HELLO, headers={"x-api-key": "wrong"})
        message = error_of(answer, 401, "authentication_error")["message"]
        assert "not valid" in message


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "k1"},
        {"x-api-key": "schlüssel".encode()},
        {"Authorization": "Bearer k1"},
        {"Authorization": "Bearer k1", "x-api-key": "another"},
    ],
)
def test_both_headers_take_a_key(keyed: TestClient, headers: dict[str, str | bytes]) -> None:
    assert keyed.post(COUNT, json=HELLO, headers=headers).status_code == 200  # type: ignore[arg-type]


def test_the_own_header_is_for_this_dialect(keyed: TestClient) -> None:
    assert keyed.post("/generate", json={}, headers={"x-api-key": "k1"}).status_code == 401


def test_a_body_that_is_too_large(keyed: TestClient) -> None:
    answer = keyed.post(MESSAGES, content="x" * 2001, headers={"x-api-key": "k1"})
    error_of(answer, 413, "request_too_large")


def test_what_a_key_has_left(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = client.app.state.container.limiter  # type: ignore[attr-defined]
    monkeypatch.setattr(limiter, "quota", lambda caller: Quota(None, Remainder(90, 80, 5.0)))
    for body in (HELLO, {}):
        headers = client.post(COUNT, json=body).headers
        assert headers["anthropic-ratelimit-tokens-remaining"] == "80"
        assert not any(name.startswith("x-ratelimit") for name in headers)


def test_a_beta_is_told_as_ignored(client: TestClient) -> None:
    headers = {"anthropic-beta": "a-2026,b", "anthropic-version": "2023-06-01"}
    answer = client.post(COUNT, json=HELLO | {"own": 1, "max_tokens": None}, headers=headers)
    assert answer.headers["x-ignored-fields"] == "own, anthropic-beta"
    body = {"messages": HELLO["messages"]}
    answer = client.post(COUNT, json=body, headers=headers)
    assert answer.headers["x-ignored-fields"] == "anthropic-beta"
    assert "x-ignored-fields" not in client.post(COUNT, json=body).headers


def test_pages_may_read_the_headers(client: TestClient) -> None:
    answer = client.post(COUNT, json=HELLO, headers={"Origin": "https://ui.example"})
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"request-id", "anthropic-ratelimit-tokens-remaining"} <= set(exposed)
