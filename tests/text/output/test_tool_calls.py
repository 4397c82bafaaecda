"""Ids, and what tools say of their arguments."""

from __future__ import annotations

import random
from typing import Any

import pytest
from reading import TOOLS

from llmserve.domain import Tool, ToolCallDelta
from llmserve.text.output.tool_calls import (
    ToolCalls,
    members_of,
    mistral_ids,
    openai_ids,
    schema_of,
)


def test_an_id_that_was_used_is_not_used_again() -> None:
    told: list[ToolCallDelta] = []
    ids = iter(["a", "a", "b"])
    calls = ToolCalls(TOOLS, told.append, lambda: next(ids))
    calls.begin("ping")
    calls.begin("ping")
    calls.arguments("{}")
    calls.arguments("")
    assert told == [
        ToolCallDelta(0, id="a", name="ping"),
        ToolCallDelta(1, id="b", name="ping"),
        ToolCallDelta(1, "{}"),
    ]


def test_ids_can_be_foretold_from_their_seed() -> None:
    for kind in (openai_ids, mistral_ids):
        assert kind(random.Random(3))() == kind(random.Random(3))()
        assert kind(random.Random(3))() != kind(random.Random(4))()


@pytest.mark.parametrize(
    ("schema", "members", "required"),
    [
        ({}, {}, []),
        ({"properties": [], "required": {}}, {}, []),
        ({"properties": {"a": 1}, "required": ["b", 3]}, {"a": 1, "b": {}}, ["b"]),
    ],
)
def test_members_are_those_that_the_schema_names(
    schema: dict[str, Any], members: dict[str, Any], required: list[str]
) -> None:
    assert members_of(schema) == (members, required)


def test_arguments_are_an_object_whatever_the_schema_says() -> None:
    assert schema_of(Tool("f", "{}", "true")) == {"type": "object"}
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    assert schema_of(Tool("f", "{}", '{"properties": {}}')) == nothing
