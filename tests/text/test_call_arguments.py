"""What a model wrote as arguments, if it is an object."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.text.call_arguments import arguments_object
from llmserve.text.taint import CONTINUED, is_tainted, marks_of


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "1", '"{}"', "null", "{'a': 1}", '{"a": 1} {}', '{"a":' * 10**5, "9" * 5000],
)
def test_what_is_no_object_is_none(text: str) -> None:
    assert arguments_object(text) is None


@pytest.mark.parametrize(
    "text", ['{"a": "\\ud83d"}', '{"\\ude00": 1}', '{"a": [{"b": "x\\udfffy"}]}']
)
def test_half_of_a_surrogate_pair_makes_no_object(text: str) -> None:
    assert arguments_object(text) is None
    assert arguments_object('{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_what_python_parses_and_does_not_follow_is_none() -> None:
    assert arguments_object('{"a":' * 900 + "1" + "}" * 900) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("", {}), (" \n", {}), (' {"a": ["b", 1.5, null]} ', {"a": ["b", 1.5, None]})],
)
def test_objects_are_read_and_nothing_is_an_empty_one(text: str, value: dict[str, Any]) -> None:
    assert arguments_object(text) == value


def test_keys_and_strings_are_the_callers() -> None:
    found = arguments_object('{"a": "b"}', CONTINUED)
    assert found is not None
    assert is_tainted(found)
    assert [marks_of(text) for text in (*found, *found.values())] == [CONTINUED, CONTINUED]
