"""Scores and classes in vLLM's shapes: refusals first."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fake_encoding import FakeEncoding, vector
from fastapi.testclient import TestClient
from pydantic import ValidationError

from llmserve.api.validation import invalid_request
from llmserve.api.vllm.body import ClassifyBody, ScoreBody
from llmserve.domain import EncodingAnswer, EncodingPurpose, TextPair, Truncation


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "send one of text_1, queries"),
        ({"text_1": "a"}, "send one of text_2, documents"),
        ({"text_1": "a", "queries": "b", "text_2": "c"}, "send one of text_1, queries"),
        ({"text_1": ["a", "b"], "text_2": "c"}, "text_1 has 2 texts and text_2 has 1"),
        ({"text_1": ["a", "b"], "text_2": ["c"] * 3}, "text_1 has 2 texts and text_2 has 3"),
        ({"text_1": [], "text_2": "c"}, "text_1"),
        ({"text_1": "a", "text_2": ["c", 1]}, "text_2.1"),
        ({"text_1": "a", "text_2": ["c"] * 2049}, "text_2"),
        ({"text_1": "a", "text_2": "c", "use_activation": False}, "'use_activation'"),
        ({"text_1": "a", "text_2": "c", "input": "b"}, "'input'"),
    ],
)
def test_what_cannot_be_scored_is_refused(body: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ScoreBody.model_validate(body)
    assert words in invalid_request(caught.value.errors()).message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": [1, "a"]}, "input.1"),
        ({"input": "a", "text_1": "b"}, "text_1"),
        ({"input": "a", "dimensions": 3}, "dimensions"),
    ],
)
def test_what_cannot_be_classified_is_refused(body: Any, param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ClassifyBody.model_validate(body)
    assert invalid_request(caught.value.errors()).param == param


@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        ({"text_1": "a", "text_2": "b"}, ["ab"]),
        ({"queries": "a", "documents": ["b", "c"]}, ["ab", "ac"]),
        ({"text_1": ["a", "d"], "items": ["b", "c"]}, ["ab", "dc"]),
        ({"data_1": ["a"], "data_2": ["b", "c"]}, ["ab", "ac"]),
    ],
)
def test_texts_pair_up(body: dict[str, Any], pairs: list[str]) -> None:
    made = ScoreBody.model_validate(body | {"truncate_prompt_tokens": 4}).encoding("r1", None)
    assert made.inputs == tuple(TextPair(*pair) for pair in pairs)
    assert made.purpose is EncodingPurpose.SCORE
    assert (made.truncation, made.max_tokens) == (Truncation.KEEP_START, 4)


def test_each_pair_has_a_score(client: TestClient, encoding: FakeEncoding) -> None:
    for path in ("/v1/score", "/score"):
        told = client.post(path, json={"text_1": "a", "text_2": ["b", "cc"]}).json()
        assert told["data"] == [
            {"index": 0, "object": "score", "score": 1.0},
            {"index": 1, "object": "score", "score": 2.0},
        ]
        assert (told["object"], told["model"]) == ("list", "fake")
        assert told["usage"]["prompt_tokens"] == 4
        assert told["id"].startswith("score-")


def test_a_class_is_one_or_each_for_itself(client: TestClient, encoding: FakeEncoding) -> None:
    told = client.post("/classify", json={"input": ["a", "b"]}).json()
    assert [one["index"] for one in told["data"]] == [0, 1]
    [first, _] = told["data"]
    assert (first["label"], first["num_classes"]) == ("glad", 3)
    assert first["probs"] == pytest.approx([0.0900, 0.2447, 0.6652], abs=1e-4)
    raw = client.post("/classify", json={"input": "a", "use_activation": False}).json()
    assert raw["data"][0]["probs"] == [1.0, 2.0, 3.0]
    encoding.answer = EncodingAnswer(
        "fake", (vector([0.0, 800.0, -800.0]),), (1,), ("a", "b", "c"), takes_several=True
    )
    [one] = client.post("/classify", json={"input": "a"}).json()["data"]
    assert (one["label"], one["probs"]) == ("b", [0.5, 1.0, 0.0])


def test_large_logits_do_not_overflow(client: TestClient, encoding: FakeEncoding) -> None:
    encoding.answer = EncodingAnswer("fake", (vector([1e4, -1e4]),), (1,), ("a", "b"))
    [one] = client.post("/classify", json={"input": "a"}).json()["data"]
    assert one["probs"] == [1.0, 0.0]
    assert all(math.isfinite(p) for p in one["probs"])
