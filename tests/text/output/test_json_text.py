"""Where JSON values end, in pieces and in error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.text.output.json_text import arguments_value, decoded, json_value
from llmserve.text.output.source import Source

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def cut(written: str, size: int, *, is_over: bool = True) -> tuple[str, bool, str]:
    """What was passed on, whether it was whole, and what was left."""
    source, passed = Source(), []
    steps = json_value(source, passed.append)
    is_whole = None
    try:
        for start in range(0, len(written), size):
            source.add(written[start : start + size])
            next(steps)
        source.is_over = is_over
        next(steps)
    except StopIteration as stopped:
        is_whole = stopped.value
        source.add(written[start + size :])
    text, start = source.window()
    assert is_whole is not None
    return "".join(passed), is_whole, text[start:]


@settings(max_examples=60, deadline=None)
@given(VALUES, st.booleans(), st.integers(1, 9))
def test_a_value_ends_where_it_ends(value: object, is_ascii: bool, size: int) -> None:
    written = json.dumps(value, ensure_ascii=is_ascii)
    assert cut(f" {written}, rest", size) == (written, True, ", rest")


@pytest.mark.parametrize("written", ['{"a": 1', '"a', '"a\\', "[[]", '{"a": "}'])
def test_a_value_that_is_cut_is_not_whole(written: str) -> None:
    assert cut(written, 1) == (written, False, "")


def test_what_is_no_value_is_not_taken() -> None:
    assert cut("<a>", 1) == ("", False, "<a>")


@pytest.mark.parametrize(
    ("written", "arguments"),
    [('{"a":  1}', '{"a":  1}'), ('"{\\"a\\": 1}"', '{"a": 1}'), ("null ", "{}"), ("[1]", "[1]")],
)
def test_arguments_are_an_object_in_other_clothes(written: str, arguments: str) -> None:
    source, passed = Source(), []
    source.add(written)
    with pytest.raises(StopIteration):
        next(arguments_value(source, passed.append))
    assert "".join(passed) == arguments


@pytest.mark.parametrize("text", ["NaN", "{", "[" * 20_000, '"\\ud800"', "-Infinity"])
def test_what_no_client_could_read_is_no_json(text: str) -> None:
    assert decoded(text) is None
