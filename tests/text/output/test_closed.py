"""Objects of forced calls have the properties that they declare."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmserve.domain import Tool
from llmserve.text.output.closed import closed
from llmserve.text.output.tool_calls import schema_of

NUMBER = {"type": "number"}
SHUT = {"properties": {"a": NUMBER}, "additionalProperties": False}
OPEN = {"properties": {"a": NUMBER}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (OPEN, SHUT),
        ({"type": "object"}, {"type": "object"}),
        (OPEN | {"additionalProperties": True}, OPEN | {"additionalProperties": True}),
        (OPEN | {"patternProperties": {"x": {}}}, OPEN | {"patternProperties": {"x": {}}}),
        (OPEN | {"required": ["a"]}, SHUT | {"required": ["a"]}),
        (OPEN | {"required": ["b"]}, OPEN | {"required": ["b"]}),
        ({"items": OPEN}, {"items": SHUT}),
        ({"anyOf": [OPEN, NUMBER]}, {"anyOf": [SHUT, NUMBER]}),
        ({"$defs": {"d": OPEN}}, {"$defs": {"d": SHUT}}),
        (
            {"properties": {"properties": OPEN, "items": NUMBER}},
            {"properties": {"properties": SHUT, "items": NUMBER}, "additionalProperties": False},
        ),
        ({"enum": [OPEN], "const": OPEN}, {"enum": [OPEN], "const": OPEN}),
        ({"items": False}, {"items": False}),
    ],
)
def test_what_says_nothing_of_others_has_none(
    schema: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = json.dumps(schema)
    assert closed(schema) == expected
    assert json.dumps(schema) == before, "the client's own is not changed"


def test_parts_that_hold_together_stay_open() -> None:
    schema = {"type": "object", "allOf": [{"$ref": "#/$defs/d"}, OPEN], "$defs": {"d": OPEN}}
    assert schema_of(Tool("f", "{}", json.dumps(schema))) == schema
    assert schema_of(Tool("f", "{}", json.dumps(OPEN))) == {"type": "object"} | SHUT
