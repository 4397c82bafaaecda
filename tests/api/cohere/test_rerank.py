"""Rerank in the shapes of Cohere, Jina and vLLM, and TEI's on the same path: refusals first."""

from __future__ import annotations

from typing import Any

import pytest
from fake_encoding import FakeEncoding
from fastapi.testclient import TestClient
from pydantic import ValidationError

from llmserve.api.cohere.body import RerankBody
from llmserve.api.validation import invalid_request
from llmserve.domain import EncodingPurpose, EncodingRequest, TextPair, Truncation
from llmserve.errors import ModelNotFound

DOCUMENTS = ["a", "ccc", "bb", "ddd"]
ASKED = {"query": "q", "documents": DOCUMENTS}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": None}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"documents": ["a", 1]}, "documents.1"),
        ({"documents": [{"title": "a"}]}, "documents.0.text"),
        ({"documents": [{"text": "a", "image": "b"}]}, "documents.0.image"),
        ({"top_n": 0}, "top_n"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"use_activation": False}, "use_activation"),
        ({"texts": ["a"]}, "texts"),
    ],
)
def test_an_error_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RerankBody.model_validate(ASKED | fields)
    assert invalid_request(caught.value.errors()).param == param


def test_one_bound_is_enough() -> None:
    with pytest.raises(ValidationError, match="send one of them"):
        RerankBody.model_validate(ASKED | {"max_tokens_per_doc": 3, "truncate_prompt_tokens": 4})


@pytest.mark.parametrize("bound", ["max_tokens_per_doc", "truncate_prompt_tokens"])
def test_the_query_goes_with_each_document(bound: str) -> None:
    documents = ["a", {"text": "b", "title": "c"}]
    body = RerankBody.model_validate(
        ASKED | {"documents": documents, "model": "m", bound: 5, "truncation_side": "left"}
    )
    assert body.encoding("r1", 3.0) == EncodingRequest(
        "r1",
        (TextPair("q", "a"), TextPair("q", "b")),
        EncodingPurpose.SCORE,
        model="m",
        truncation=Truncation.KEEP_END,
        max_tokens=5,
        timeout_seconds=3.0,
    )
    assert list(body.unknown(9)) == [(("documents",), "title")]


def test_documents_that_are_too_long_are_cut() -> None:
    made = RerankBody.model_validate(ASKED).encoding("r1", None)
    assert (made.truncation, made.max_tokens) == (Truncation.KEEP_START, None)


def test_the_best_come_first_and_equals_in_their_order(
    client: TestClient, encoding: FakeEncoding
) -> None:
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        told = client.post(path, json=ASKED | {"model": "m"}).json()
        assert told["results"] == [
            {"index": 1, "relevance_score": 3.0},
            {"index": 3, "relevance_score": 3.0},
            {"index": 2, "relevance_score": 2.0},
            {"index": 0, "relevance_score": 1.0},
        ]
        assert (told["model"], told["usage"]["total_tokens"]) == ("fake", 8)
        assert told["meta"]["tokens"] == {"input_tokens": 8}
        assert told["id"]


def test_a_query_is_a_text(client: TestClient, encoding: FakeEncoding) -> None:
    for query in (None, ["q"], 1):
        answer = client.post("/v1/rerank", json=ASKED | {"query": query})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "query")
    assert encoding.requests == []


def test_only_the_best_with_their_texts(client: TestClient, encoding: FakeEncoding) -> None:
    body = ASKED | {"top_n": 2, "return_documents": True}
    told = client.post("/v1/rerank", json=body).json()
    assert [one["document"] for one in told["results"]] == [{"text": "ccc"}, {"text": "ddd"}]
    told = client.post("/v1/rerank", json=body | {"top_n": 99}).json()
    assert len(told["results"]) == 4


def test_an_error_has_a_message_for_each_kind_of_client(
    client: TestClient, encoding: FakeEncoding
) -> None:
    encoding.error = ModelNotFound("nobody of that name", param="model")
    answer = client.post("/v2/rerank", json=ASKED)
    assert answer.status_code == 404
    assert answer.json()["message"] == answer.json()["error"]["message"] == "nobody of that name"


def test_another_method_is_refused_in_the_same_shape(client: TestClient) -> None:
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert answer.json().keys() == {"message", "error"}


def test_a_body_with_texts_is_teis(client: TestClient, encoding: FakeEncoding) -> None:
    body = {"query": "q", "texts": DOCUMENTS}
    told = client.post("/rerank", json=body | {"truncate": True, "return_text": True}).json()
    assert told[0] == {"index": 1, "score": 3.0, "text": "ccc"}
    assert [one["index"] for one in told] == [1, 3, 2, 0]
    asked = encoding.asked
    assert asked.inputs[0] == TextPair("q", "a")
    assert asked.truncation is Truncation.KEEP_START
    assert client.post("/rerank", json=body).json()[0] == {"index": 1, "score": 3.0}
    assert encoding.asked.truncation is Truncation.REFUSE
    encoding.error = ModelNotFound("nobody of that name")
    answer = client.post("/rerank", json=body)
    assert answer.json() == {"error": "nobody of that name", "error_type": "Validation"}
    raw = client.post("/rerank", json=body | {"raw_scores": True})
    assert (raw.status_code, raw.json()["error"]["param"]) == (400, "raw_scores")
