"""POST /v1/responses without a store."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.engines.job import Job
from llmserve.errors import GenerationFailed


def test_a_whole_response(talkative: FakeEngine, client: TestClient) -> None:
    answer = client.post("/v1/responses", json={"input": "hi", "metadata": {"a": "b"}})
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "response"
    assert body["output"][0]["content"][0]["text"] == "ok"
    assert (body["status"], body["metadata"], body["store"]) == ("completed", {"a": "b"}, False)
    assert body["usage"]["input_tokens"] == 1


def test_a_stream_has_named_events_and_no_done(talkative: FakeEngine, client: TestClient) -> None:
    answer = client.post("/v1/responses", json={"input": "hi", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [part for part in answer.text.split("\n\n") if part.startswith("event: ")]
    assert events[0].startswith("event: response.created\n")
    assert events[-1].startswith("event: response.completed\n")
    assert "[DONE]" not in answer.text
    last = json.loads(events[-1].partition("data: ")[2])
    assert last["response"]["output"][0]["content"][0]["text"] == "ok"


def test_a_failure_of_a_whole_response_has_its_status(
    engine: FakeEngine, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = engine.start

    def start_and_fail(job: Job) -> None:
        start(job)
        asyncio.get_running_loop().call_soon(engine.finish, job, GenerationFailed("it broke"))

    monkeypatch.setattr(engine, "start", start_and_fail)
    answer = client.post("/v1/responses", json={"input": "hi"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "generation_failed")
    streamed = client.post("/v1/responses", json={"input": "hi", "stream": True})
    assert streamed.status_code == 200
    kinds = [line[7:] for line in streamed.text.splitlines() if line.startswith("event: ")]
    assert kinds[-2:] == ["error", "response.failed"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
    ],
)
def test_without_a_store_what_needs_one_is_refused_with_the_settings_name(
    client: TestClient, engine: FakeEngine, fields: dict[str, Any], param: str
) -> None:
    answer = client.post("/v1/responses", json={"input": "hi"} | fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert "`responses_store`" in error["message"]
    assert engine.started == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")],
)
def test_without_a_store_no_response_has_an_address(
    client: TestClient, method: str, path: str
) -> None:
    answer = client.request(method, "/v1/responses/resp_1" + path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "response_not_found")
    assert "`responses_store`" in answer.json()["error"]["message"]


def test_a_refused_field_is_named_streamed_or_not(client: TestClient) -> None:
    for stream in (False, True):
        body = {"input": "hi", "tools": [{"type": "web_search"}], "stream": stream}
        answer = client.post("/v1/responses", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "tools.0"
        assert "web_search" in answer.json()["error"]["message"]


def test_what_nobody_knows_is_told(talkative: FakeEngine, client: TestClient) -> None:
    answer = client.post("/v1/responses", json={"input": "hi", "own": 1, "moderation": {"m": 1}})
    assert answer.headers["x-ignored-fields"] == "own, moderation"


def test_tokens_of_an_input_are_counted(client: TestClient, engine: FakeEngine) -> None:
    body = {"input": [{"role": "user", "content": "a"}] * 3, "instructions": "b"}
    answer = client.post("/v1/responses/input_tokens", json=body)
    assert answer.json() == {"object": "response.input_tokens", "input_tokens": 4}
    assert engine.started == []
