"""Cohere's embeddings: refusals first."""

from __future__ import annotations

from typing import Any

import pytest
from fake_encoding import FakeEncoding
from fastapi.testclient import TestClient
from pydantic import ValidationError

from llmserve.api.cohere.embed_body import EmbedBody
from llmserve.api.validation import invalid_request
from llmserve.domain import EncodingPurpose, EncodingRequest, Truncation


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"texts": None}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": "a"}, "texts"),
        ({"texts": ["a"] * 2049}, "texts"),
        ({"input_type": "image"}, "input_type"),
        ({"embedding_types": ["int8"]}, "embedding_types.0"),
        ({"embedding_types": []}, "embedding_types"),
        ({"output_dimension": 0}, "output_dimension"),
        ({"truncate": "MIDDLE"}, "truncate"),
        ({"images": ["data:…"]}, "images"),
    ],
)
def test_an_error_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EmbedBody.model_validate({"texts": ["a"]} | fields)
    assert invalid_request(caught.value.errors()).param == param


@pytest.mark.parametrize(
    ("truncate", "truncation"),
    [
        (None, Truncation.KEEP_START),
        ("END", Truncation.KEEP_START),
        ("START", Truncation.KEEP_END),
        ("NONE", Truncation.REFUSE),
    ],
)
def test_fields_become_the_services_words(truncate: str | None, truncation: Truncation) -> None:
    sent = {
        "texts": ["a", "b"], "model": "m", "input_type": "search_query", "output_dimension": 3,
        "truncate": truncate,
    }  # fmt: skip
    assert EmbedBody.model_validate(sent).encoding("r1", 2.0) == EncodingRequest(
        "r1",
        ("a", "b"),
        EncodingPurpose.EMBEDDING,
        model="m",
        prompt_name="query",
        may_lack_prompt=True,
        dimensions=3,
        truncation=truncation,
        timeout_seconds=2.0,
    )


def test_numbers_are_told_by_how_they_are_written(
    client: TestClient, encoding: FakeEncoding
) -> None:
    body = {"texts": ["a", "bb"]}
    told = client.post("/v2/embed", json=body).json()
    assert told["embeddings"] == {"float": [[1.0, 0.5], [2.0, 0.5]]}
    assert (told["texts"], told["meta"]["billed_units"]) == (["a", "bb"], {"input_tokens": 4})
    types = {"embedding_types": ["base64", "float"]}
    for path in ("/v1/embed", "/v2/embed"):
        told = client.post(path, json=body | types).json()
        assert told["response_type"] == "embeddings_by_type"
        assert list(told["embeddings"]) == ["base64", "float"]
        assert told["embeddings"]["base64"][0] == "AACAPwAAAD8="


def test_the_old_form_is_one_array(client: TestClient, encoding: FakeEncoding) -> None:
    told = client.post("/v1/embed", json={"texts": ["a", "bb"]}).json()
    assert told["embeddings"] == [[1.0, 0.5], [2.0, 0.5]]
    assert told["response_type"] == "embeddings_floats"
    refused = client.get("/v1/embed")
    assert (refused.status_code, refused.json().keys()) == (405, {"message", "error"})
