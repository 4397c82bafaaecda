"""Values without quotes, by schema."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.text.output.typed import argument_json, types_of

ROOT = {"$defs": {"n": {"type": "integer"}, "loop": {"$ref": "#/$defs/loop"}}}


@pytest.mark.parametrize(
    ("schema", "text", "written"),
    [
        ({"type": "string"}, "1", '"1"'),
        ({}, "1", '"1"'),
        (None, "é", '"é"'),
        ({"type": "integer"}, " 3 ", "3"),
        ({"type": "integer"}, "3.0", "3"),
        ({"type": "integer"}, "3.5", '"3.5"'),
        ({"type": "number"}, "3", "3"),
        ({"type": "number"}, "NaN", '"NaN"'),
        ({"type": "boolean"}, "True", "true"),
        ({"type": "boolean"}, "1", '"1"'),
        ({"type": ["string", "null"]}, "None", "null"),
        ({"type": "string", "nullable": True}, "null", "null"),
        ({"type": "array"}, "['a', 1]", '["a", 1]'),
        ({"type": "array"}, "['a'", "\"['a'\""),
        ({"type": "object"}, '{"a": "é"}', '{"a": "é"}'),
        ({"type": "object"}, "{1, 2}", '"{1, 2}"'),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "7", "7"),
        ({"enum": [1, 2]}, "2", "2"),
        ({"const": True}, "true", "true"),
        ({"$ref": "#/$defs/n"}, "2", "2"),
        ({"$ref": "#/$defs/none"}, "2", '"2"'),
    ],
)
def test_a_text_is_what_its_schema_says_if_it_can_be(schema: Any, text: str, written: str) -> None:
    assert argument_json(text, schema, ROOT) == written


def test_a_schema_that_refers_to_itself_names_no_type() -> None:
    assert types_of({"$ref": "#/$defs/loop"}, ROOT) == frozenset()
