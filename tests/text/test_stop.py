"""Stop strings: against a brute-force reference, however the text is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.text.stop import Screened, StopMatcher

texts = st.text(alphabet="abc", max_size=30)
stop_lists = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=3)


def reference(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Read letter by letter; the first moment at which the text ends in a stop string."""
    for end in range(1, len(text) + 1):
        matching = [stop for stop in stops if text[:end].endswith(stop)]
        if matching:
            longest = max(matching, key=len)
            return text[: end - len(longest)], longest
    return text, None


def screen(parts: list[str], stops: list[str], *, is_kept: bool = False) -> tuple[str, str | None]:
    matcher = StopMatcher(tuple(stops), is_kept=is_kept)
    out = ""
    for part in parts:
        screened = matcher.feed(part)
        out += screened.text
        if screened.matched is not None:
            return out, screened.matched
    return out + matcher.flush(), None


@given(texts, stop_lists, st.lists(st.integers(0, 30), max_size=6))
def test_the_outcome_does_not_depend_on_how_the_text_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    edges = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(edges)]
    assert screen(parts, stops) == reference(text, stops)


@given(texts, stop_lists)
def test_a_match_that_is_kept_ends_the_text(text: str, stops: list[str]) -> None:
    before, matched = reference(text, stops)
    assert screen(list(text), stops, is_kept=True) == (before + (matched or ""), matched)


@given(texts, stop_lists)
def test_only_a_proper_prefix_of_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(tuple(stops))
    seen = sent = ""
    for letter in text:
        screened = matcher.feed(letter)
        seen, sent = seen + letter, sent + screened.text
        if screened.matched is not None:
            return
        held = seen[len(sent) :]
        assert held == "" or any(s.startswith(held) and s != held for s in stops)


def test_without_stop_strings_nothing_is_held() -> None:
    matcher = StopMatcher()
    assert matcher.feed("abc").text == "abc"
    assert matcher.flush() == ""


@given(texts, stop_lists)
def test_a_stop_string_is_never_emitted_and_the_text_is_never_invented(
    text: str, stops: list[str]
) -> None:
    out, matched = screen(list(text), stops)
    assert not any(stop in out for stop in stops)
    assert text.startswith(out + (matched or ""))
    assert matched is not None or out == text


@given(texts, stop_lists)
def test_everything_that_cannot_become_a_stop_string_is_sent_at_once(
    text: str, stops: list[str]
) -> None:
    matcher, seen, sent = StopMatcher(tuple(stops)), "", ""
    for letter in text:
        screened = matcher.feed(letter)
        seen, sent = seen + letter, sent + screened.text
        if screened.matched is not None:
            return
        tails = [seen[-n:] for n in range(1, len(seen) + 1)]
        needed = [t for t in tails if any(s.startswith(t) and s != t for s in stops)]
        assert len(seen) - len(sent) == max(map(len, needed), default=0)


@pytest.mark.parametrize(
    ("text", "stops", "outcome"),
    [
        ("aaab", ["aab"], ("a", "aab")),
        ("abcd", ["abcd", "bc"], ("a", "bc")),
        ("xabc", ["c", "bc", "abc"], ("x", "abc")),
        ("abab", ["b", "ab"], ("", "ab")),
        ("a\nUser:", ["\nUser:", "\n\n"], ("a", "\nUser:")),
        ("好的。停止 now", ["。停"], ("好的", "。停")),
        ("ab", ["abc"], ("ab", None)),
        ("", ["a"], ("", None)),
    ],
)
def test_the_match_that_ends_first_wins_and_of_those_the_longest(
    text: str, stops: list[str], outcome: tuple[str, str | None]
) -> None:
    assert screen([text], stops) == outcome
    assert screen(list(text), stops) == outcome
    assert screen(list(text), stops[::-1]) == outcome


def test_after_a_match_nothing_is_left_to_flush() -> None:
    matcher = StopMatcher(("ab",))
    assert matcher.feed("xabyz") == Screened("x", "ab")
    assert matcher.flush() == ""


def test_flushing_twice_gives_the_held_text_once() -> None:
    matcher = StopMatcher(("abc",))
    assert matcher.feed("xab") == Screened("x")
    assert (matcher.flush(), matcher.flush()) == ("ab", "")


def test_feeding_no_text_changes_nothing() -> None:
    matcher = StopMatcher(("abc",))
    assert matcher.feed("ab").text + matcher.feed("").text == ""
    assert matcher.feed("c") == Screened("", "abc")
