"""pydantic's errors in words that a client understands."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llmserve.api.fields import Fields
from llmserve.api.validation import MAX_SHOWN, invalid_request
from llmserve.errors import InvalidRequest


class Part(Fields):
    unsupported = frozenset({"image", "suffix"})
    served_elsewhere = frozenset({"stream"})

    text: str


class Body(Fields):
    parts: list[Part] = Field([], max_length=3)
    ids: list[Annotated[int, Field(ge=0)]] | str = ""
    first: int = 0
    last: int = 9

    @model_validator(mode="after")
    def _ordered(self) -> Body:
        if self.first > self.last:
            raise ValueError("first comes after last")
        return self


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


def refusal(model: type[BaseModel], sent: Any) -> InvalidRequest:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(sent)
    return invalid_request(refused.value.errors())


@pytest.mark.parametrize(
    ("sent", "param", "message"),
    [
        ({"first": "x"}, "first", "first: Input should be a valid integer"),
        ({"ids": [-1]}, "ids.0", "ids.0: Input should be greater than or equal to 0"),
        ({"parts": [{"text": "a"}, {}]}, "parts.1.text", "parts.1.text: Field required"),
        ({"first": 10}, None, "first comes after last"),
        (
            {"parts": [{"text": "a", "suffix": "b"}]},
            "parts.0.suffix",
            "'parts.0.suffix' is not supported by this server; leave it out",
        ),
        (
            {"parts": [{"text": "a", "image": "b"}]},
            "parts.0.image",
            "parts.0.image: images cannot be read: the model is served for text only",
        ),
        (
            {"parts": [{"text": "a", "stream": True}]},
            "parts.0.stream",
            "'parts.0.stream' is not a field of this request; leave it out",
        ),
        (
            [],
            None,
            "the body must be a JSON object, sent with `Content-Type: application/json`",
        ),
    ],
)
def test_the_first_error_names_its_field(sent: Any, param: str | None, message: str) -> None:
    error = refusal(Body, sent)
    assert (error.param, error.message) == (param, message)


def test_a_field_that_asks_for_nothing_is_not_refused() -> None:
    assert Part.model_validate({"text": "a", "image": None, "stream": False}).text == "a"


@pytest.mark.parametrize("name", ["own", "list[int]", "str", "body"])
def test_an_unknown_field_keeps_the_clients_name(name: str) -> None:
    error = refusal(Closed, {name: 1})
    expected = f"{name!r} is not a field of this request; leave it out"
    assert (error.param, error.message) == (name, expected)


def test_where_fastapi_looked_is_left_out() -> None:
    at = {"type": "missing", "msg": "Field required"}
    assert invalid_request([at | {"loc": ("body", "prompt")}]).param == "prompt"
    assert invalid_request([at | {"loc": ("query", "prompt")}]).param == "prompt"
    told = {"type": "json_invalid", "loc": ("body", 3), "ctx": {"error": "unexpected end"}}
    assert invalid_request([told]).message == "the body is not valid JSON: unexpected end"


def test_a_clients_long_words_are_cut() -> None:
    param = refusal(Closed, {"x" * 1000: 1}).param
    assert param is not None
    assert len(param) == MAX_SHOWN
