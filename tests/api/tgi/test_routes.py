"""TGI's routes over a fake engine."""

from __future__ import annotations

import pytest
from fake_engine import FakeEngine, TalkingEngine
from fastapi.testclient import TestClient

from llmserve.bootstrap import models, server
from llmserve.domain import ModelSpec
from llmserve.registry.registry import Registry


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    talker = TalkingEngine()
    monkeypatch.setattr(server, "build_registry", lambda *_, **__: Registry([ModelSpec("fake")]))
    monkeypatch.setattr(models, "build_engine", lambda *_: talker)
    return talker


@pytest.fixture
def talking(client: TestClient) -> TestClient:
    while client.get("/health/ready").status_code != 200:
        pass
    return client


def test_an_error_has_a_word_for_its_kind(talking: TestClient) -> None:
    for path in ("/", "/generate_stream"):
        answer = talking.post(path, json={"inputs": "x", "parameters": {"top_p": 2}})
        assert answer.status_code == 400
        assert set(answer.json()) == {"error", "error_type"}
        assert answer.json()["error_type"] == "validation"
        assert answer.json()["error"].startswith("parameters.top_p")
    assert talking.post("/", json={"inputs": "x", "model": "nobody"}).status_code == 404


def test_an_answer_is_a_list_of_one_or_a_stream(talking: TestClient) -> None:
    assert talking.post("/", json={"inputs": "x"}).json() == [{"generated_text": "ab"}]
    streamed = talking.post("/", json={"inputs": "x", "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert '"generated_text":"ab"' in streamed.text
    streamed = talking.post("/generate_stream", json={"inputs": "x"})
    assert '"generated_text":"ab"' in streamed.text


def test_the_default_model_is_described(talking: TestClient) -> None:
    told = talking.get("/info").json()
    assert (told["model_id"], told["model_dtype"]) == ("fake", "float32")
    assert (told["max_input_tokens"], told["max_total_tokens"]) == (19, 20)
    assert told["max_concurrent_requests"] == 1


def test_the_root_says_what_ollamas_clients_look_for(talking: TestClient) -> None:
    assert talking.get("/").text == "Ollama is running"
    assert talking.head("/").status_code == 200


def test_another_method_is_refused_in_the_shape_of_this_dialect(client: TestClient) -> None:
    for method, path, allowed in (
        ("PUT", "/", "GET, HEAD, POST"),
        ("GET", "/generate_stream", "POST"),
        ("POST", "/info", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json().keys() == {"error", "error_type"}
