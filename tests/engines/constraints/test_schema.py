"""Schemas are read as the standard has them, or refused with a pointer."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.engines.constraints.disjoint import are_disjoint
from llmserve.engines.constraints.json_pointer import child, resolve
from llmserve.engines.constraints.keywords import SHAPES
from llmserve.engines.constraints.refusals import SchemaRefused
from llmserve.engines.constraints.schema import Schema

KEYWORDS = [*SHAPES, "items", "exclusiveMinimum", "exclusiveMaximum"]
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 3.0, "", "a", "integer", "#", [], [1], ["a"], ["a", "a"],
    ["null"], [{}], [True], [3], {}, {"a": 1}, {"a": {}}, {"a": ["b"]}, {"a": "b"}, {"": True},
]  # fmt: skip


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_what_the_metaschema_refuses_is_refused_at_its_pointer(keyword: str) -> None:
    for value in ODD:
        for document, pointer in (
            ({keyword: value}, f"#/{keyword}"),
            ({"properties": {"p": {keyword: value}}}, f"#/properties/p/{keyword}"),
        ):
            try:
                jsonschema.Draft202012Validator.check_schema(document)
            except jsonschema.SchemaError:
                with pytest.raises(SchemaRefused) as refused:
                    Schema(document)
                assert refused.value.pointer.startswith(pointer), document


@given(
    st.recursive(
        st.sampled_from(ODD),
        lambda inner: st.dictionaries(
            st.sampled_from(KEYWORDS), inner | st.lists(inner, max_size=2), max_size=3
        ),
        max_leaves=8,
    )
)
def test_any_document_is_read_or_refused(document: Any) -> None:
    try:
        written = Schema(document)
    except SchemaRefused:
        return
    if isinstance(document, dict):
        jsonschema.Draft202012Validator.check_schema(document)
    assert written.text().startswith("{")


@given(st.lists(st.text(max_size=5), max_size=4))
def test_pointers_name_what_they_were_made_for(path: list[str]) -> None:
    document: Any = 7
    for name in reversed(path):
        document = {name: document}
    pointer = child("#", *path)
    escaped = pointer.replace("%", "%25")
    assert resolve(document, escaped) == (pointer, 7)
    with pytest.raises(LookupError):
        resolve({"a": [1]}, "#/a/1")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"type": "null"}, {"type": "string"}, True),
        ({"type": "integer"}, {"type": "number"}, False),
        ({"const": 1}, {"const": 1.0}, False), ({"const": 1}, {"const": True}, True),
        ({"enum": ["a", "b"]}, {"const": "c"}, True), ({"enum": ["a"]}, {"enum": ["a"]}, False),
        ({"enum": [1]}, {"type": "string"}, True), ({}, {"type": "null"}, False),
        ({"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"]},
         {"type": "object", "properties": {"k": {"const": 2}}}, True),
        ({"type": "object", "properties": {"k": {"const": 1}}},
         {"type": "object", "properties": {"k": {"const": 2}}}, False),
        ({"properties": {"k": {"const": 1}}, "required": ["k"]},
         {"properties": {"k": {"const": 2}}, "required": ["k"]}, False),
        ({"anyOf": [{"type": "null"}, {"const": 1}]}, {"type": "string"}, True),
        ({"allOf": [{"type": "null"}]}, {"type": "string"}, True), (False, {}, True),
        (True, {}, False),
    ],
)  # fmt: skip
def test_what_excludes_each_other(one: Any, other: Any, expected: bool) -> None:
    assert are_disjoint([one, other], {}.__getitem__) is expected
    assert are_disjoint([other, one], {}.__getitem__) is expected


def test_a_condition_without_consequences_must_be_a_schema_and_nothing_more() -> None:
    """And consequences without a condition."""
    assert Schema({"if": {"type": "string"}, "type": "integer"}).root == {"type": "integer"}
    assert Schema({"if": {"not": {"type": "string"}}, "type": "integer"}).root
    for wrong in ({"type": None}, {"properties": {"a": {"type": "strin"}}}, {"if": {"items": 3}}):
        for keyword in ("if", "then", "else"):
            with pytest.raises(SchemaRefused, match=rf"^#/{keyword}/"):
                Schema({keyword: wrong})
