"""Ollama's routes over a fake engine: refusals, loads, streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_engine import FakeEngine, TalkingEngine
from fastapi.testclient import TestClient

from llmserve.bootstrap import models, server
from llmserve.domain import ModelSpec
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus

ASKED = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def registry() -> Registry:
    return Registry([ModelSpec("fake")], on_demand=[ModelSpec("late")])


@pytest.fixture
def engine(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    talker = TalkingEngine()
    monkeypatch.setattr(server, "build_registry", lambda *_, **__: registry)
    monkeypatch.setattr(models, "build_engine", lambda *_: talker)
    return talker


@pytest.fixture
def ready(client: TestClient) -> TestClient:
    while client.get("/health/ready").status_code != 200:
        pass
    return client


def test_a_stream_is_lines_of_json(ready: TestClient) -> None:
    for path, body, where in (
        ("/api/chat", ASKED, lambda line: line["message"]["content"]),
        ("/api/generate", {"prompt": "hi", "raw": True}, lambda line: line["response"]),
    ):
        answer = ready.post(path, json=body, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert "content-encoding" not in answer.headers
        *pieces, last = map(json.loads, answer.text.splitlines())
        assert "".join(map(where, pieces)) == "ab"
        assert not any(piece["done"] for piece in pieces)
        assert (last["done_reason"], last["eval_count"]) == ("stop", 2)


def test_curl_sends_json_as_a_form_and_web_pages_must_not(ready: TestClient) -> None:
    body = json.dumps(ASKED | {"stream": False})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for headers in (form, {}):
        assert ready.post("/api/chat", content=body, headers=headers).status_code == 200
    page = form | {"Origin": "https://evil.example"}
    refused = ready.post("/api/chat", content=body, headers=page)
    assert refused.status_code == 400
    assert "application/json" in refused.json()["error"]
    assert ready.post("/v1/chat/completions", content=body, headers=form).status_code == 400


def test_without_a_stream_it_is_one_object(ready: TestClient) -> None:
    body = ready.post("/api/chat", json=ASKED | {"stream": False, "model": "fake:latest"}).json()
    assert (body["message"]["content"], body["model"], body["done"]) == ("ab", "fake", True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/chat", {"messages": 1}, 400),
        ("POST", "/api/chat", ASKED | {"model": "nobody"}, 404),
        ("POST", "/api/chat", ASKED | {"model": "fake:7b"}, 404),
        ("POST", "/api/chat", ASKED | {"think": True}, 400),
        ("POST", "/api/show", {"model": "nobody"}, 404),
        ("POST", "/api/show", {"model": "fake", "name": "other"}, 400),
        ("POST", "/api/pull", {"model": "x"}, 400),
        ("POST", "/api/push", {"model": "x"}, 400),
        ("POST", "/api/create", {"model": "x"}, 400),
        ("POST", "/api/copy", {}, 400),
        ("DELETE", "/api/delete", {"model": "x"}, 400),
        ("POST", "/api/embed", {"model": "fake", "input": "y"}, 400),
        ("POST", "/api/embed", {"model": "x", "input": "y"}, 404),
        ("POST", "/api/embeddings", {}, 400),
        ("GET", "/api/chat", None, 405),
    ],
)
def test_an_error_is_a_message(
    ready: TestClient, method: str, path: str, body: Any, status: int
) -> None:
    answer = ready.request(method, path, json=body)
    assert answer.status_code == status
    if status != 405:  # no router took it
        assert set(answer.json()) == {"error"}
        assert isinstance(answer.json()["error"], str)


def test_what_is_not_there_is_refused_in_the_shape_of_this_dialect(ready: TestClient) -> None:
    for path in ("/api/nothing", "/api/", "/api/chat/more"):
        answer = ready.post(path, json={})
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
        assert "there is no route" in answer.json()["error"]
    for method, path, allowed in (
        ("GET", "/api/chat", "POST"),
        ("POST", "/api/tags", "GET, HEAD"),
        ("PUT", "/api/version", "GET, HEAD"),
        ("GET", "/api/embed", "POST"),
    ):
        answer = ready.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert isinstance(answer.json()["error"], str)


def test_nothing_to_answer_loads_the_model_and_keeps_it(
    ready: TestClient, registry: Registry
) -> None:
    late = registry.find("late")
    body = ready.post("/api/generate", json={"model": "late", "keep_alive": "1h"}).json()
    assert (body["done_reason"], body["response"], body["done"]) == ("load", "", True)
    assert (late.status, late.keep_seconds) == (ModelStatus.READY, 3600.0)
    [first, second] = ready.get("/api/ps").json()["models"]
    assert (first["expires_at"][:4], second["name"]) == ("9999", "late:latest")
    assert second["expires_at"] < "9999"
    body = ready.post("/api/chat", json={"model": "late", "keep_alive": 0}).json()
    assert (body["done_reason"], body["message"]["content"]) == ("unload", "")
    while late.status is not ModelStatus.UNLOADED:
        pass


def test_a_keep_alive_of_a_model_that_stays_is_told_as_ignored(ready: TestClient) -> None:
    answer = ready.post("/api/chat", json=ASKED | {"keep_alive": 0, "stream": False})
    assert answer.headers["x-ignored-fields"] == "keep_alive"
    answer = ready.post("/api/chat", json={"keep_alive": 0})
    assert answer.headers["x-ignored-fields"] == "keep_alive"
    assert answer.json()["done_reason"] == "load"


def test_models_are_listed_and_shown(ready: TestClient) -> None:
    listed = ready.get("/api/tags").json()["models"]
    assert [model["model"] for model in listed] == ["fake:latest", "late:latest"]
    assert [model["size"] for model in listed] == [4, 0]
    assert len({model["digest"] for model in listed}) == 2
    shown = ready.post("/api/show", json={"model": "fake:latest"}).json()
    assert shown["capabilities"] == ["completion"]
    assert shown["model_info"]["general.parameter_count"] == 1
    assert shown["details"]["quantization_level"] == "F32"
    unloaded = ready.post("/api/show", json={"name": "late"}).json()
    assert (unloaded["model_info"], unloaded["template"]) == ({}, "")


def test_it_says_whose_api_it_speaks(ready: TestClient) -> None:
    told = ready.get("/api/version").json()
    assert told["server"].startswith("llmserve ")
    assert [int(part) for part in told["version"].split(".")] >= [0, 6, 4]
    assert ready.head("/api/version").status_code == 200
