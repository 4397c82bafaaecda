"""Ollama's routes for embeddings over a service that answers anything: refusals first."""

from __future__ import annotations

from typing import Any

import pytest
from fake_encoding import FakeEncoding
from fastapi.testclient import TestClient
from pydantic import ValidationError

from llmserve.api.ollama.embed_body import EmbedBody, EmbeddingFields, OldEmbedBody
from llmserve.api.validation import invalid_request
from llmserve.domain import Truncation
from llmserve.errors import InvalidRequest


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (EmbedBody, {}, "send an `input`"),
        (EmbedBody, {"input": [1]}, "input.0"),
        (EmbedBody, {"input": ["a"] * 2049}, "input"),
        (EmbedBody, {"input": "a", "dimensions": 0}, "dimensions"),
        (EmbedBody, {"input": "a", "prompt": "b"}, "'prompt'"),
        (OldEmbedBody, {}, "send a `prompt`"),
        (OldEmbedBody, {"prompt": ["a"]}, "prompt"),
        (OldEmbedBody, {"input": "a", "model": "m"}, "'input'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    kind: type[EmbeddingFields], body: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert words in invalid_request(caught.value.errors()).message


def test_long_texts_are_cut_unless_somebody_minds() -> None:
    for fields, truncation in (
        ({}, Truncation.KEEP_START),
        ({"truncate": True}, Truncation.KEEP_START),
        ({"truncate": False}, Truncation.REFUSE),
    ):
        made = EmbedBody.model_validate({"input": "a", "dimensions": 2} | fields).encoding("r", 1.0)
        assert (made.truncation, made.dimensions, made.is_normalized) == (truncation, 2, True)
    old = OldEmbedBody.model_validate({"prompt": "a"}).encoding("r", None)
    assert (old.inputs, old.truncation) == (("a",), Truncation.KEEP_START)
    assert old.is_normalized is None


def test_vectors_come_with_durations(client: TestClient, encoding: FakeEncoding) -> None:
    body = {"model": "fake:latest", "input": ["a", "bb"], "options": {"num_ctx": 9}}
    answer = client.post("/api/embed", json=body)
    told = answer.json()
    assert told["embeddings"] == [[1.0, 0.5], [2.0, 0.5]]
    assert (told["model"], told["prompt_eval_count"]) == ("fake", 4)
    assert 0 <= told["load_duration"] <= told["total_duration"]
    assert answer.headers["x-ignored-fields"] == "options.num_ctx"
    assert encoding.asked.model == "fake:latest"
    assert client.post("/api/embed", json={"input": "abc"}).json()["embeddings"] == [[3.0, 0.5]]


def test_the_old_form_has_one(client: TestClient, encoding: FakeEncoding) -> None:
    assert client.post("/api/embeddings", json={"prompt": "abc"}).json() == {
        "embedding": [3.0, 0.5]
    }


def test_an_error_is_a_message(client: TestClient, encoding: FakeEncoding) -> None:
    encoding.error = InvalidRequest("it chats")
    for path, body in (("/api/embed", {"input": "a"}), ("/api/embeddings", {"prompt": "a"})):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()) == (400, {"error": "it chats"})


def test_nothing_to_embed_loads_the_model(client: TestClient, encoding: FakeEncoding) -> None:
    while client.get("/health/ready").status_code != 200:
        pass
    for path, told in (
        ("/api/embed", {"model": "fake", "embeddings": []}),
        ("/api/embeddings", {"embedding": []}),
    ):
        assert client.post(path, json={"model": "fake", "keep_alive": 0}).json() == told
    assert client.post("/api/embed", json={"model": "nobody"}).status_code == 404
    assert encoding.requests == []
