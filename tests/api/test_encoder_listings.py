"""A model that encodes, beside one that generates: what each dialect tells of it, and what a chat
for it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fake_encoder import FakeEncoder
from fake_engine import TalkingEngine
from fastapi.testclient import TestClient

from llmserve.api.app import create_app
from llmserve.bootstrap import models, server
from llmserve.domain import EncodingInfo, EncodingPurpose, EngineInfo, ModelSpec
from llmserve.registry.registry import Registry
from llmserve.settings import Settings

HELLO = [{"role": "user", "content": "hi"}]
CHATS = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 3},
    "/v1/messages/count_tokens": {"messages": HELLO},
    "/api/chat": {"messages": HELLO},
    "/api/generate": {"prompt": "hi"},
    "/": {"inputs": "hi"},
    "/generate": {"prompt": "hi"},
}
LABELS = ("sad", "glad")


class Classifier(FakeEncoder):
    """One that names classes."""

    @property
    def info(self) -> EngineInfo:
        told = EncodingInfo(self.purposes, labels=LABELS)
        return replace(super().info, encoding=told)


@pytest.fixture(scope="module")
def both() -> Iterator[TestClient]:
    """`enc` comes first, and yet is not the default."""
    engines = {
        "enc": FakeEncoder(capacity=4),
        "classes": Classifier(purposes=(EncodingPurpose.CLASSIFICATION,)),
        "fake": TalkingEngine(),
    }
    engines["enc"].answers_at_once = True
    registry = Registry([ModelSpec(name) for name in engines])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "build_registry", lambda *_, **__: registry)
        patch.setattr(models, "build_engine", lambda spec, *_: engines[spec.name])
        settings = Settings(drain_timeout_seconds=1)
        with TestClient(create_app(settings), raise_server_exceptions=False) as client:
            while client.get("/health/ready").status_code != 200:
                pass
            yield client


@pytest.mark.parametrize("path", CHATS)
def test_a_chat_for_it_is_refused_and_told_whom_to_ask(both: TestClient, path: str) -> None:
    answer = both.post(path, json=CHATS[path] | {"model": "enc"})
    assert answer.status_code == 400
    assert "'enc' does not generate text; what it can do: embeddings;" in answer.text
    assert "ask 'fake'" in answer.text


def test_a_chat_without_a_model_goes_to_one_that_generates(both: TestClient) -> None:
    answer = both.post("/v1/chat/completions", json={"messages": HELLO})
    assert (answer.status_code, answer.json()["model"]) == (200, "fake")


@pytest.mark.parametrize(
    ("path", "body", "remedy"),
    [
        ("/v1/embeddings", {"input": "a", "model": "fake"}, "ask 'enc'"),
        ("/embed", {"inputs": "a", "model": "classes"}, "ask 'enc'"),
        ("/api/embed", {"input": "a", "model": "fake"}, "ask 'enc'"),
        ("/classify", {"input": "a", "model": "enc"}, "ask 'classes'"),
        ("/v1/score", {"text_1": "a", "text_2": "b", "model": "fake"}, "no other model"),
    ],
)
def test_numbers_from_one_that_cannot_are_refused_and_told_whom_to_ask(
    both: TestClient, path: str, body: Any, remedy: str
) -> None:
    answer = both.post(path, json=body)
    assert answer.status_code == 400
    assert remedy in answer.text


def test_an_embedding_goes_the_whole_road(both: TestClient) -> None:
    told = both.post("/v1/embeddings", json={"input": ["abc", "a"]}).json()
    assert [one["embedding"] for one in told["data"]] == [[3.0, 3.0], [1.0, 1.0]]
    assert told["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_models_are_told_with_what_they_can_do(both: TestClient) -> None:
    told = {model["id"]: model for model in both.get("/v1/models").json()["data"]}
    assert told["enc"]["capabilities"] == ["embeddings"]
    assert told["enc"]["engine"]["kind"] == "encoding"
    assert (told["enc"]["encoding"]["dimensions"], told["enc"]["max_model_len"]) == (2, 20)
    assert "default_sampling" not in told["enc"]
    assert told["classes"]["encoding"]["labels"] == ["sad", "glad"]
    assert "encoding" not in told["fake"]


def test_ollama_is_told_that_it_embeds(both: TestClient) -> None:
    shown = both.post("/api/show", json={"model": "enc"}).json()
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"]["model.embedding_length"] == 2
    assert both.post("/api/show", json={"model": "classes"}).json()["capabilities"] == []
    assert [model["name"] for model in both.get("/api/tags").json()["models"]] == [
        "enc:latest", "classes:latest", "fake:latest",
    ]  # fmt: skip


def test_texts_become_its_tokens(both: TestClient) -> None:
    assert both.post("/tokenize", json={"model": "enc", "prompt": "abc"}).json()["count"] == 3


@pytest.mark.parametrize(
    ("kind", "purpose"),
    [
        ("embedding", EncodingPurpose.EMBEDDING),
        ("reranker", EncodingPurpose.SCORE),
        ("classifier", EncodingPurpose.CLASSIFICATION),
    ],
)
def test_info_is_teis_where_the_default_model_encodes(
    monkeypatch: pytest.MonkeyPatch, kind: str, purpose: EncodingPurpose
) -> None:
    make = Classifier if kind == "classifier" else FakeEncoder
    engine = make(purposes=(purpose,))
    monkeypatch.setattr(server, "build_registry", lambda *_, **__: Registry([ModelSpec("enc")]))
    monkeypatch.setattr(models, "build_engine", lambda *_: engine)
    with TestClient(create_app(Settings(drain_timeout_seconds=1))) as client:
        while (answer := client.get("/info")).status_code != 200:
            pass
    assert list(answer.json()["model_type"]) == [kind]
    assert answer.json()["max_input_length"] == 20
    if kind == "classifier":
        assert answer.json()["model_type"][kind]["id2label"] == {"0": "sad", "1": "glad"}
