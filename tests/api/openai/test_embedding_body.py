"""What may be sent to POST /v1/embeddings, and what is asked of the service then."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.openai.embedding_body import EmbeddingBody
from llmserve.api.validation import invalid_request
from llmserve.domain import EncodingPurpose, EncodingRequest, Truncation
from llmserve.errors import InvalidRequest


def request(sent: dict[str, Any]) -> EncodingRequest:
    return EmbeddingBody.model_validate(sent).encoding("r1", None)


def complaint(sent: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(ValidationError) as caught:
        EmbeddingBody.model_validate(sent)
    return invalid_request(caught.value.errors())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input.0"),
        ({"input": ["a", 1]}, "input.1"),
        ({"input": [1, "a"]}, "input.1"),
        ({"input": [[1], ["a"]]}, "input.1.0"),
        ({"input": [-1]}, "input.0"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [[1]] * 2049}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"input": "a", "truncate": "MIDDLE"}, "truncate"),
        ({"input": "a", "input_type": "poem"}, "input_type"),
        ({"input": "a", "timeout": 0}, "timeout"),
        ({"input": "a", "task": "retrieval.query"}, "task"),
        ({"input": "a", "add_special_tokens": False}, "add_special_tokens"),
        ({"input": "a", "embed_dtype": "float16"}, "embed_dtype"),
        ({"input": "a", "messages": [{"role": "user", "content": "a"}]}, "messages"),
    ],
)
def test_an_error_names_the_field(body: Any, param: str) -> None:
    assert complaint(body).param == param


@pytest.mark.parametrize(
    "two",
    [
        {"prompt_name": "a", "input_type": "query"},
        {"truncate": True, "truncate_prompt_tokens": 3},
        {"truncate": False, "truncation_side": "left"},
    ],
)
def test_two_ways_to_say_the_same_are_one_too_many(two: dict[str, Any]) -> None:
    message = complaint({"input": "a"} | two).message
    assert all(name in message for name in two)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, {"truncation": Truncation.REFUSE}),
        ({"truncate_prompt_tokens": -1}, {"truncation": Truncation.KEEP_START}),
        ({"truncate_prompt_tokens": 7}, {"truncation": Truncation.KEEP_START, "max_tokens": 7}),
        ({"truncation_side": "left"}, {"truncation": Truncation.KEEP_END}),
        ({"truncate": True}, {"truncation": Truncation.KEEP_START}),
        ({"truncate": "START"}, {"truncation": Truncation.KEEP_END}),
        ({"truncate": "NONE"}, {"truncation": Truncation.REFUSE}),
        ({"truncate": False}, {"truncation": Truncation.REFUSE}),
        ({"dimensions": 3}, {"dimensions": 3}),
        ({"normalize": False}, {"is_normalized": False}),
        ({"prompt_name": "poem"}, {"prompt_name": "poem", "may_lack_prompt": False}),
        ({"prompt_name": ""}, {"prompt_name": "", "may_lack_prompt": False}),
        ({"input_type": "search_query"}, {"prompt_name": "query", "may_lack_prompt": True}),
        ({"input_type": "passage"}, {"prompt_name": "document", "may_lack_prompt": True}),
        ({"timeout": 9}, {"timeout_seconds": 9.0}),
    ],
)
def test_fields_become_the_services_words(fields: dict[str, Any], asked: dict[str, Any]) -> None:
    made = request({"input": "a"} | fields)
    assert {name: getattr(made, name) for name in asked} == asked


@pytest.mark.parametrize(
    ("sent", "inputs"),
    [
        ("hello", ("hello",)),
        ("", ("",)),
        (["hello", "you"], ("hello", "you")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_inputs_are_texts_or_tokens(sent: Any, inputs: Any) -> None:
    made = request({"input": sent, "model": "m"})
    assert made == EncodingRequest("r1", inputs, EncodingPurpose.EMBEDDING, model="m")
