"""Marks stay on a caller's characters, whatever is done to the string: here they are upper case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.text.taint import (
    CONTINUED,
    MARK,
    Tainted,
    concat,
    is_tainted,
    marks_of,
    plain,
    tainted,
    traced,
    traced_as,
    unmarked,
    untainted,
)

CALLERS = "AB \n"
OURS = "ab.-"
pieces = st.lists(
    st.one_of(
        st.text(alphabet=CALLERS, max_size=6).map(Tainted), st.text(alphabet=OURS, max_size=6)
    ),
    max_size=6,
)
mixed = pieces.map(lambda parts: unmarked(concat(parts)))
any_string = st.one_of(mixed, st.text(alphabet=OURS, max_size=3), st.just(""))


def is_right(value: Any) -> bool:
    """Whether exactly the caller's characters have marks, at every depth."""
    if isinstance(value, list | tuple):
        return all(map(is_right, value))
    marks = [mark == MARK[0] for mark in marks_of(value)]
    return marks == [letter in CALLERS for letter in plain(value)]


OPERATIONS: list[Callable[[Any, Any, Any], Any]] = [
    lambda s, x, y: s + x,
    lambda s, x, y: x + s,
    lambda s, x, y: s * 3,
    lambda s, x, y: 2 * s,
    lambda s, x, y: [*s],
    lambda s, x, y: s[1:-1],
    lambda s, x, y: s[::-2],
    lambda s, x, y: s[len(s) // 2] if s else s,
    lambda s, x, y: s[-1] if s else s,
    lambda s, x, y: s.strip(),
    lambda s, x, y: s.strip("Aa"),
    lambda s, x, y: s.lstrip(),
    lambda s, x, y: s.rstrip("B\n"),
    lambda s, x, y: s.split(),
    lambda s, x, y: s.split(None, 1),
    lambda s, x, y: s.split("b"),
    lambda s, x, y: s.split("A", 2),
    lambda s, x, y: s.rsplit(),
    lambda s, x, y: s.rsplit(None, 1),
    lambda s, x, y: s.rsplit("b", 1),
    lambda s, x, y: s.splitlines(),
    lambda s, x, y: s.splitlines(True),
    lambda s, x, y: s.partition("a"),
    lambda s, x, y: s.rpartition("B"),
    lambda s, x, y: s.removeprefix(x),
    lambda s, x, y: s.removesuffix(x),
    lambda s, x, y: s.replace("A", "b."),
    lambda s, x, y: s.replace(x or "a", y, 2),
    lambda s, x, y: s.join([x, y, x]),
    lambda s, x, y: s.join(""),
    lambda s, x, y: str(s),
]


@given(text=mixed, one=any_string, other=any_string)
def test_every_operation_gives_what_it_gives_for_plain_strings_and_keeps_marks(
    text: Tainted, one: str, other: str
) -> None:
    for number, operation in enumerate(OPERATIONS):
        made = operation(text, one, other)
        assert made == operation(plain(text), plain(one), plain(other)), number
        assert is_right(made), number


@given(pieces)
def test_a_join_of_pieces_keeps_marks(parts: list[str]) -> None:
    assert concat(parts) == "".join(parts)
    assert is_right(concat(parts))
    assert is_right(concat(iter(parts)))


def test_it_is_the_same_string_to_everybody() -> None:
    text = Tainted("user")
    assert text == "user"
    assert hash(text) == hash("user")
    assert {"user": 1}[text] == 1
    assert "se" in text
    assert type(plain(text)) is str
    with pytest.raises(TypeError, match='can only concatenate str \\(not "int"\\) to str'):
        text + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        1 + text  # type: ignore[operator]
    with pytest.raises(IndexError):
        text[9]


def test_marks_are_found_and_taken_off_at_every_depth() -> None:
    for value in ({"a": [{"b": Tainted("x")}, 1, None]}, ("y", True, (Tainted("z"),))):
        assert is_tainted(value)
        assert untainted(value) == value
        assert not is_tainted(untainted(value))
    assert is_tainted({Tainted("key"): 1})
    assert not is_tainted({"a": ["b", 1]})


@given(one=mixed, other=mixed)
def test_what_is_put_into_a_string_is_found_in_it(one: Tainted, other: Tainted) -> None:
    for function in ("a%s-%s.".__mod__, lambda args: "a{}-{}.".format(*args)):
        made = traced(function, (one, other))
        assert made == function((plain(one), plain(other)))
        assert is_right(made)


def test_what_was_changed_on_the_way_is_marked_as_a_whole() -> None:
    made = traced(lambda text: f"<{text.title()}>", Tainted("ab"))
    assert (made, marks_of(made)) == ("<Ab>", MARK * 4)


def test_a_function_may_not_like_a_stand_in() -> None:
    made = traced(lambda letter: f"<{ord(letter)}>", Tainted("A"))
    assert (made, marks_of(made)) == ("<65>", MARK * 4)


def test_of_unmarked_strings_nothing_is_marked() -> None:
    assert not is_tainted(traced("%s".__mod__, "a"))
    assert traced(len, Tainted("abc")) == 3


def test_an_iterator_is_read_once() -> None:
    assert traced("-".join, iter([Tainted("A"), "b"])) == "A-b"


def test_a_value_is_marked_at_every_depth_with_the_mark_that_is_asked_for() -> None:
    value = {"a": ["b", 1, None, {"c": ("d",)}]}
    for mark in (MARK, CONTINUED):
        marked = tainted(value, mark)
        assert marked == value
        assert [marks_of(key) for key in marked] == [mark]
        assert marks_of(marked["a"][0]) == marks_of(marked["a"][3]["c"][0]) == mark
    assert not is_tainted(value)


def test_how_a_function_writes_a_marked_string_may_be_said() -> None:
    def quoted(text: str) -> str:
        return "".join(f"[{letter}]" for letter in text)

    def written(text: Tainted) -> Tainted:
        return Tainted(quoted(plain(text)))

    def function(text: str) -> str:
        return "<" + (text if text.startswith("\ue000") else quoted(text)) + ">"

    made = traced_as(written, function, Tainted("AB"))
    assert (made, marks_of(made)) == ("<[A][B]>", b"\0" + MARK * 6 + b"\0")
