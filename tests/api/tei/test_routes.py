"""text-embeddings-inference's routes: refusals first."""

from __future__ import annotations

from typing import Any

import pytest
from fake_encoding import FakeEncoding, vector
from fastapi.testclient import TestClient
from pydantic import BaseModel, ValidationError

from llmserve.api.tei.body import EmbedBody, PredictBody, SimilarityBody
from llmserve.api.validation import invalid_request
from llmserve.domain import EncodingAnswer, EncodingPurpose, TextPair, Truncation
from llmserve.errors import (
    GenerationFailed,
    InvalidRequest,
    LLMServeError,
    ModelLoading,
    QueueFull,
)

COMPARED = {"source_sentence": "a", "sentences": ["b"]}


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (EmbedBody, {}, "inputs"),
        (EmbedBody, {"inputs": []}, "inputs"),
        (EmbedBody, {"inputs": ["a"] * 2049}, "inputs"),
        (EmbedBody, {"inputs": "a", "truncation_direction": "up"}, "truncation_direction"),
        (EmbedBody, {"inputs": "a", "dimensions": 0}, "dimensions"),
        (EmbedBody, {"inputs": "a", "parameters": {"truncate": True}}, "parameters"),
        (PredictBody, {"inputs": ["a", "b", "c"]}, "inputs"),
        (PredictBody, {"inputs": [["a"], "b"]}, "inputs.1"),
        (PredictBody, {"inputs": [["a"], ["a", "b", "c"]]}, "inputs.1"),
        (PredictBody, {"inputs": []}, "inputs"),
        (SimilarityBody, {"inputs": "a"}, "inputs"),
        (SimilarityBody, {"inputs": COMPARED | {"sentences": []}}, "inputs.sentences"),
        (SimilarityBody, {"inputs": COMPARED, "truncate": True}, "truncate"),
    ],
)
def test_an_error_names_the_field(kind: type[BaseModel], body: Any, param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert invalid_request(caught.value.errors()).param == param


@pytest.mark.parametrize(
    ("fields", "normalized", "truncation"),
    [
        ({}, True, Truncation.REFUSE),
        ({"normalize": False, "truncation_direction": "Left"}, False, Truncation.REFUSE),
        ({"truncate": True, "truncation_direction": "Left"}, True, Truncation.KEEP_END),
        ({"truncate": True, "truncation_direction": "right"}, True, Truncation.KEEP_START),
    ],
)
def test_it_asks_for_an_embedding(
    fields: dict[str, Any], normalized: bool, truncation: Truncation
) -> None:
    sent = {"inputs": ["a", "b"], "prompt_name": "query", "dimensions": 3} | fields
    made = EmbedBody.model_validate(sent).encoding("r1", 2.0)
    assert (made.inputs, made.purpose) == (("a", "b"), EncodingPurpose.EMBEDDING)
    assert (made.prompt_name, made.dimensions, made.timeout_seconds) == ("query", 3, 2.0)
    assert (made.is_normalized, made.truncation) == (normalized, truncation)


@pytest.mark.parametrize(
    ("sent", "inputs", "is_one"),
    [
        ("a", ("a",), True),
        (["a"], ("a",), True),
        (["a", "b"], (TextPair("a", "b"),), True),
        ([["a"], ["b", "c"]], ("a", TextPair("b", "c")), False),
    ],
)
def test_a_list_of_two_texts_is_a_pair(sent: Any, inputs: Any, is_one: bool) -> None:
    body = PredictBody.model_validate({"inputs": sent})
    assert (body.encoding("r1", None).inputs, body.is_one) == (inputs, is_one)


def test_vectors_are_a_bare_array(client: TestClient, encoding: FakeEncoding) -> None:
    assert client.post("/embed", json={"inputs": "abc"}).json() == [[3.0, 0.5]]
    assert client.post("/embed", json={"inputs": ["a", "bb"]}).json() == [[1.0, 0.5], [2.0, 0.5]]


def test_classes_are_sorted(client: TestClient, encoding: FakeEncoding) -> None:
    one = client.post("/predict", json={"inputs": "a"}).json()
    assert [told["label"] for told in one] == ["glad", "calm", "sad"]
    assert sum(told["score"] for told in one) == pytest.approx(1)
    several = client.post("/predict", json={"inputs": [["a"]], "raw_scores": True}).json()
    assert [told["score"] for told in several[0]] == [3.0, 2.0, 1.0]


def test_a_text_is_compared_with_others(client: TestClient, encoding: FakeEncoding) -> None:
    vectors = (vector([0.6, 0.8]), vector([0.6, 0.8]), vector([0.8, -0.6]))
    encoding.answer = EncodingAnswer("fake", vectors, (1, 1, 1))
    compared = COMPARED | {"sentences": ["b", "c"]}
    body = {"inputs": compared, "parameters": {"prompt_name": "p", "truncate": True}}
    assert client.post("/similarity", json=body).json() == pytest.approx([1.0, 0.0])
    asked = encoding.asked
    assert (asked.inputs, asked.is_normalized) == (("a", "b", "c"), True)
    assert (asked.prompt_name, asked.truncation) == ("p", Truncation.KEEP_START)


def test_an_error_has_a_word_for_its_kind(client: TestClient, encoding: FakeEncoding) -> None:
    cases: tuple[tuple[LLMServeError, int, str], ...] = (
        (InvalidRequest("no"), 400, "Validation"),
        (QueueFull("no"), 429, "Overloaded"),
        (ModelLoading("no"), 503, "Unhealthy"),
        (GenerationFailed("no"), 500, "Backend"),
    )
    for error, status, word in cases:
        encoding.error = error
        answer = client.post("/embed", json={"inputs": "a"})
        assert (answer.status_code, answer.json()) == (status, {"error": "no", "error_type": word})


def test_what_is_not_served_is_refused_in_its_shape(client: TestClient) -> None:
    for method, path, status, words in (
        ("POST", "/embed_sparse", 400, "/embed_sparse is not served here"),
        ("POST", "/embed_all", 400, "/embed_all is not served here"),
        ("GET", "/embed", 405, "does not take GET"),
        ("POST", "/embed", 400, "inputs"),
    ):
        answer = client.request(method, path, json={})
        assert (answer.status_code, answer.json()["error_type"]) == (status, "Validation")
        assert words in answer.json()["error"]
