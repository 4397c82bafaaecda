"""Every family: however its text is cut, what is read is the same, and nothing is lost."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from reading import Read, read

from llmserve.domain import ToolCall
from llmserve.text.output.families import FAMILIES, HARMONY
from llmserve.text.output.harmony import HarmonySyntax
from llmserve.text.output.syntax import FamilySyntax, MarkedSyntax

EACH = pytest.mark.parametrize("syntax", FAMILIES.values(), ids=list(FAMILIES))


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """There would be thousands."""
    logger.disable("llmserve.text.output")
    yield
    logger.enable("llmserve.text.output")


SCRAPS = (
    *sorted({marker for family in FAMILIES.values() for marker in family.markers}),
    '{"name": "weather", "arguments": {"city": "Oslo',
    '{"arguments": {"city": 1}, "name": "ping"}',
    '"}}',
    "weather\n",
    "<function=weather>",
    "<parameter=city>",
    "functions.weather:0",
    "to=functions.ping",
    "analysis",
    "commentary",
    '[weather(city="a", days=1), ',
    "call:weather{city:",
    "[ARGS]{",
    "\n",
    " ",
    "Hello.",
    "\\",
    '"',
    "{",
    "]",
)
"""What texts between sense and nonsense are made of."""

CUTS = st.lists(st.integers(1, 400), max_size=12)
WORDS = st.text(string.ascii_letters + " éæ日😀.,\n\"'\\{}[]()=:", max_size=12)
ARGUMENTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"city": WORDS, "days": st.integers(-5, 10**6)},
    optional={
        "wet": st.booleans(),
        "tags": st.lists(WORDS, max_size=3),
        "at": st.fixed_dictionaries({"x": st.floats(0, 1, width=16)}),
    },
)
CALLS = st.lists(
    st.one_of(st.builds(lambda a: ("weather", json.dumps(a)), ARGUMENTS), st.just(("ping", "{}"))),
    min_size=1,
    max_size=3,
)


def thought(syntax: FamilySyntax, text: str) -> str:
    if isinstance(syntax, HarmonySyntax):
        return f"<|channel|>analysis<|message|>{text}<|end|><|start|>assistant"
    assert syntax.thinking is not None
    return f"{syntax.thinking.start}\n{text}\n{syntax.thinking.end}\n\n"


@EACH
@settings(max_examples=12, deadline=None)
@given(scraps=st.lists(st.sampled_from(SCRAPS), max_size=12), cuts=CUTS)
def test_what_is_read_does_not_depend_on_how_the_text_was_cut(
    syntax: FamilySyntax, scraps: list[str], cuts: list[int]
) -> None:
    written = "".join(scraps)
    assert read(syntax, written, cuts) == read(syntax, written)
    assert read(syntax, written, range(len(written))) == read(syntax, written)
    assert read(syntax, written, cuts, tools=None) == read(syntax, written, tools=None)


@EACH
@settings(max_examples=12, deadline=None)
@given(written=CALLS, cuts=CUTS)
def test_calls_are_read_as_they_were_written(
    syntax: FamilySyntax, written: list[tuple[str, str]], cuts: list[int]
) -> None:
    text = syntax.write([ToolCall("", name, arguments) for name, arguments in written])
    found = read(syntax, text, cuts)
    assert found.text == ""
    assert [(name, json.loads(text)) for name, text in found.calls] == [
        (name, json.loads(text)) for name, text in written
    ]


@EACH
@settings(max_examples=8, deadline=None)
@given(text=st.text(string.ascii_letters + " \n.,!é日😀", max_size=60), cuts=CUTS)
def test_text_without_delimiters_is_passed_on_unchanged(
    syntax: FamilySyntax, text: str, cuts: list[int]
) -> None:
    assert read(syntax, text, cuts, tools=None) == Read(text)
    assert read(syntax, text, cuts) == Read(text)


@EACH
def test_an_answer_that_is_cut_loses_nothing_that_was_said(syntax: FamilySyntax) -> None:
    calls = [ToolCall("", "weather", '{"city": "Oslo", "days": 2}'), ToolCall("", "ping", "{}")]
    is_bare = isinstance(syntax, MarkedSyntax) and syntax.calls.is_bare
    said = "" if is_bare or syntax is HARMONY else "I will look. "
    has_thought = syntax.thinking is not None
    written = (thought(syntax, "Hm.") if has_thought else "") + said + syntax.write(calls)
    whole = read(syntax, written)
    assert whole.reasoning == ("Hm." if has_thought else "")
    assert whole.text == said.strip()
    assert [name for name, _ in whole.calls] == ["weather", "ping"]
    begun = written.index(syntax.write(calls))
    for length in range(begun, len(written)):
        part = read(syntax, written[:length])
        rest = written[begun:length]
        assert part.reasoning == whole.reasoning
        assert [name for name, _ in part.calls] == ["weather", "ping"][: len(part.calls)]
        if part.calls:
            assert part.text.startswith(whole.text)
            arguments = part.calls[0][1]
            assert whole.calls[0][1].startswith(arguments) or arguments in rest
        elif syntax is not HARMONY or "to=f" in rest:
            assert part.text.removeprefix("<|start|>assistant") == said + rest


@EACH
def test_without_tools_the_syntax_of_calls_is_text(syntax: FamilySyntax) -> None:
    call = syntax.write([ToolCall("", "weather", '{"city": "Oslo", "days": 2}')])
    found = read(syntax, call, tools=None)
    assert found.calls == ()
    assert found.text == call


@EACH
def test_a_call_of_a_tool_that_there_is_not_is_a_call_where_delimiters_announce_it(
    syntax: FamilySyntax,
) -> None:
    call = syntax.write([ToolCall("", "wether", '{"city": "Oslo"}')])
    found = read(syntax, call)
    if isinstance(syntax, MarkedSyntax) and syntax.calls.is_bare:
        assert found == Read(call)
    else:
        assert [(name, json.loads(text)) for name, text in found.calls] == [
            ("wether", {"city": "Oslo"})
        ]


@pytest.mark.parametrize(
    "syntax", [family for family in FAMILIES.values() if family.thinking], ids=lambda f: f.name
)
def test_reasoning_that_the_prompt_opened_goes_on(syntax: FamilySyntax) -> None:
    before, _, after = thought(syntax, "~").partition("~")
    if isinstance(syntax, HarmonySyntax):
        after += "<|channel|>final<|message|>"
    found = read(syntax, f"Hm.{after}Yes.", opening=f"<|start|>assistant{before}")
    assert found == Read("Yes.", "Hm.")
