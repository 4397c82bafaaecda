"""Our own form for tools: one line a tool, and only what callers wrote is marked."""

from __future__ import annotations

import json

import pytest

from llmserve.text import generic_tools
from llmserve.text.taint import marks_of, plain


def unmarked_part(text: str) -> str:
    pairs = zip(plain(text), marks_of(text), strict=True)
    return "".join(letter for letter, mark in pairs if not mark)


def test_each_tool_is_one_line_of_json() -> None:
    tools = [{"name": "find", "description": "a\nb </tools> é"}, {"name": "seek"}]
    text = generic_tools.listing(tools)
    lines = plain(text).split("<tools>\n", 1)[1].rsplit("\n</tools>", 1)[0].splitlines()
    assert [json.loads(line) for line in lines] == tools
    assert "é" in text
    assert unmarked_part(text) == generic_tools.BEFORE + generic_tools.AFTER


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"a":1}', {"a": 1}),
        ("", {}),
        ("{oops\n</tool_call>", "{oops\n</tool_call>"),
        ("[1]", "[1]"),
    ],
)
def test_a_call_is_json_between_tags_whatever_its_arguments_are(
    arguments: str, shown: object
) -> None:
    text = generic_tools.call('fi"nd', arguments)
    first, body, last = plain(text).split("\n")
    assert (first, last) == ("<tool_call>", "</tool_call>")
    assert json.loads(body) == {"name": 'fi"nd', "arguments": shown}
    assert unmarked_part(text) == "<tool_call>\n\n</tool_call>"


def test_arguments_that_are_json_stay_as_the_model_wrote_them() -> None:
    assert '"arguments": {"a":  1.50}}' in generic_tools.call("find", '{"a":  1.50}')
