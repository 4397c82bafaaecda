"""Patterns and delimiters in a text that comes in pieces."""

from __future__ import annotations

from typing import Any

import pytest
import regex

from llmserve.text.output.source import WINDOW, Marks, Source, Steps


def ended(steps: Steps[Any]) -> Any:
    """The result of steps that need no more text."""
    with pytest.raises(StopIteration) as stopped:
        next(steps)
    return stopped.value.value


def test_a_pattern_waits_for_the_text_that_decides() -> None:
    source = Source()
    steps = source.match(regex.compile(r"\s*<a>"))
    for piece in (" ", "<", "a"):
        source.add(piece)
        next(steps)
    source.add("> b")
    assert ended(steps).group() == " <a>"
    assert source.window() == (" <a> b", 4)


def test_a_pattern_that_is_not_there_takes_nothing() -> None:
    source = Source()
    source.add("<b>")
    assert ended(source.match(regex.compile("<a>"))) is None
    assert source.window() == ("<b>", 0)


def test_at_the_end_the_beginning_of_a_pattern_is_none_unless_it_may_be_cut() -> None:
    source = Source()
    source.add("<a")
    source.is_over = True
    assert ended(source.match(regex.compile("<a>"))) is None
    assert ended(source.match(regex.compile("<a>"), even_cut=True)).group() == "<a"


def test_a_pattern_is_no_longer_than_the_window_however_its_text_comes() -> None:
    pattern = regex.compile(r"\s*<a>")
    for size in (WINDOW - 3, WINDOW - 2):
        whole, parts = Source(), Source()
        written = " " * size + "<a>"
        whole.add(written)
        steps = parts.match(pattern)
        found = None
        try:
            for letter in written:
                parts.add(letter)
                next(steps)
        except StopIteration as stopped:
            found = stopped.value
        assert bool(found) == bool(ended(whole.match(pattern))) == (size == WINDOW - 3)


def test_only_what_may_be_a_delimiter_is_held_back() -> None:
    source, passed = Source(), []
    steps = source.until(Marks(("<end>", "<stop>")), passed.append)
    source.add("a < b <e")
    next(steps)
    assert "".join(passed) == "a < b "
    source.add("n <st")
    next(steps)
    assert "".join(passed) == "a < b <en "
    source.add("op>c")
    assert ended(steps) == "<stop>"
    assert "".join(passed) == "a < b <en "
    assert source.window()[0][source.window()[1] :] == "c"


def test_what_was_taken_is_recorded_until_it_is_understood() -> None:
    source = Source()
    source.add("abcdef")
    source.record("<x>")
    source.take(2)
    assert source.recorded() == "<x>ab"
    source.record()
    source.take(3)
    source.forget()
    assert source.recorded() == ""
    source.give_back("ab")
    assert source.take(5) == "abdef"
