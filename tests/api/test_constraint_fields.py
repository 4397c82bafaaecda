"""What an answer must look like, by every name that it has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.native.frames import PromptFrame
from llmserve.api.native.schemas import GenerateBody
from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.openai.completion_body import CompletionBody
from llmserve.api.validation import invalid_request
from llmserve.domain import Constraint, ConstraintKind

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TEXT = json.dumps(SCHEMA, separators=(",", ":"))
BODIES: list[tuple[type[Any], dict[str, Any]]] = [
    (ChatBody, {"messages": [{"role": "user", "content": "hi"}]}),
    (CompletionBody, {"prompt": "hi"}),
    (GenerateBody, {"prompt": "hi"}),
    (PromptFrame, {"prompt": "hi", "id": "a"}),
]


def format_of(schema: object, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema} | more}


@pytest.mark.parametrize(
    ("sent", "kind", "source", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "json_object", "", "response_format"),
        (
            {"response_format": format_of(SCHEMA, strict=True)},
            "json_schema", TEXT, "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "json_object", "", "response_format",
        ),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", TEXT, "structured_outputs.json"),
        ({"structured_outputs": {"json": TEXT}}, "json_schema", TEXT, "structured_outputs.json"),
        (
            {"structured_outputs": {"json_object": True}},
            "json_object", "", "structured_outputs.json_object",
        ),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+", "structured_outputs.regex"),
        (
            {"structured_outputs": {"choice": ["a", "b"]}},
            "choice", '["a","b"]', "structured_outputs.choice",
        ),
        ({"structured_outputs": {"grammar": "g"}}, "grammar", "g", "structured_outputs.grammar"),
        ({"guided_json": SCHEMA}, "json_schema", TEXT, "guided_json"),
        ({"guided_json": TEXT}, "json_schema", TEXT, "guided_json"),
        ({"guided_regex": "a+"}, "regex", "a+", "guided_regex"),
        ({"guided_choice": ["a"]}, "choice", '["a"]', "guided_choice"),
        ({"guided_grammar": "g"}, "grammar", "g", "guided_grammar"),
        ({"json_schema": SCHEMA}, "json_schema", TEXT, "json_schema"),
        ({"regex": "a+"}, "regex", "a+", "regex"),
        ({"ebnf": "g"}, "grammar", "g", "ebnf"),
        ({"grammar": "g"}, "grammar", "g", "grammar"),
    ],
)  # fmt: skip
def test_every_name_reaches_the_service_on_every_route(
    sent: dict[str, Any], kind: str, source: str, param: str
) -> None:
    for body, rest in BODIES:
        [request] = body.model_validate(rest | sent).requests("r", None)
        assert request.constraint == Constraint(ConstraintKind(kind), source, param)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "text", "json_schema": None}},
        {"structured_outputs": None},
        {"guided_json": None},
    ],
)
def test_without_a_constraint_the_model_says_what_it_likes(sent: dict[str, Any]) -> None:
    for body, rest in BODIES:
        [request] = body.model_validate(rest | sent).requests("r", None)
        assert request.constraint is None


@pytest.mark.parametrize(
    ("sent", "param", "told"),
    [
        ({"response_format": {"type": "json"}}, "response_format.type", "'text'"),
        ({"response_format": "json_object"}, "response_format", "dictionary"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema", "Field required",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name", "Field required",
        ),
        ({"response_format": format_of([1])}, "response_format.json_schema.schema", "dictionary"),
        ({"guided_json": 3}, "guided_json", "dictionary"),
        ({"guided_choice": []}, "guided_choice", "at least 1"),
        ({"guided_choice": ["a", ""]}, "guided_choice.1", "at least 1"),
        ({"guided_regex": ""}, "guided_regex", "at least 1"),
        ({"structured_outputs": {"own": 1}}, "structured_outputs", "exactly one of"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "exactly"),
        (
            {"structured_outputs": {"structural_tag": "x"}},
            "structured_outputs.structural_tag", "is not supported",
        ),
        ({"guided_regex": "a", "guided_choice": ["a"]}, None, "guided_choice and guided_regex"),
        (
            {"response_format": {"type": "json_object"}, "grammar": "g"},
            None, "grammar and response_format both say",
        ),
    ],
)  # fmt: skip
def test_what_says_nothing_clear_is_refused_by_name(
    sent: dict[str, Any], param: str | None, told: str
) -> None:
    for body, rest in BODIES:
        with pytest.raises(ValidationError) as refused:
            body.model_validate(rest | sent)
        error = invalid_request(refused.value.errors())
        assert error.param == param
        assert told in error.message
