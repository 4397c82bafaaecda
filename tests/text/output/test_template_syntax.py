"""Templates in the form of transformers, the tokenizer's own and those of operators."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import Read, read

from llmserve.domain import ToolChoice
from llmserve.errors import ConfigurationError, InvalidRequest
from llmserve.text.output.lark import Lark
from llmserve.text.output.template_syntax import TemplateSyntax

NAMED = {
    "start_anchor": "<bot>",
    "fields": {
        "thinking": {"open": "{{", "close": "}}"},
        "content": {},
        "aside": {"open": "((", "close": "))"},
        "tool_calls": {
            "open_pattern": r"@(?P<name>\w+)\(",
            "close": ")@",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"(?P<key>\w+)=(?P<value>[^;]*);"},
            "transform": {"function": {"name": "{name}", "arguments": "{content}"}},
        },
    },
}
IN_JSON = {
    "start_anchor": "<bot>",
    "fields": {
        "content": {},
        "tool_calls": {"open": "[[", "close": "]]", "repeats": True, "content": "json"},
    },
}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from(["{{", "}}", "@ping(", ")@", "days=1;", "Hm. ", "((", "))", "\n", "@"])
    ),
    st.lists(st.integers(1, 40)),
)
def test_what_is_read_does_not_depend_on_how_the_text_was_cut(
    scraps: list[str], cuts: list[int]
) -> None:
    written = "".join(scraps)
    syntax = TemplateSyntax(NAMED, "a template")
    assert read(syntax, written, cuts) == read(syntax, written)


def test_reasoning_text_and_calls_are_told_apart() -> None:
    syntax = TemplateSyntax(NAMED, "a template")
    written = "{{ Hm. }} I look. @weather(city=3;days=3;)@ @ping()@ ((Oh.))"
    assert read(syntax, written) == Read(
        "I look. Oh.", "Hm.", (("weather", '{"city": "3", "days": 3}'), ("ping", "{}"))
    )
    assert read(syntax, written, tools=None).text.startswith("I look. @weather(city")


def test_reasoning_that_the_prompt_opened_goes_on() -> None:
    syntax = TemplateSyntax(NAMED, "a template")
    assert read(syntax, "Hm.}}Yes.", opening="<bot>{{ ") == Read("Yes.", "Hm.")
    assert syntax.starts_in_reasoning("<bot>{{ ")
    assert not syntax.starts_in_reasoning("<bot>{{ }}")


def test_a_malformed_call_is_text_with_the_delimiters_that_are_known() -> None:
    syntax = TemplateSyntax(IN_JSON, "a template")
    for body in ("nothing", '{"nom": 1}', "[1]", "3", '{"name": 1}'):
        assert read(syntax, f"So [[{body}]]") == Read(f"So [[{body}]]")
    written = '[[{"name": "ping", "arguments": "{}"}]]'
    assert read(syntax, written).calls == (("ping", "{}"),)


def test_what_a_pattern_cannot_take_is_text() -> None:
    fields: dict[str, Any] = json.loads(json.dumps(NAMED["fields"]))
    fields["tool_calls"]["open_pattern"] = r"@(?P<name>\w+)?\("
    syntax = TemplateSyntax({**NAMED, "fields": fields}, "a template")
    assert read(syntax, "So @()@ and on.", [2, 6, 9]) == Read("So @()@ and on.")


def test_long_text_is_read_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmserve.text.output.template_syntax.RENEWED_AFTER", 5)
    syntax = TemplateSyntax(IN_JSON, "a template")
    written = 'Hello [ there. [[{"name": "ping", "arguments": {}}]] And [so on.'
    expected = Read("Hello [ there. And [so on.", "", (("ping", "{}"),))
    assert read(syntax, written, range(len(written))) == expected


@pytest.mark.parametrize(
    "template",
    [
        {"fields": {"content": {}}},
        {"start_anchor": "x", "fields": {}},
        {"start_anchor": "x", "fields": {"content": {"open_pattern": "("}}},
        {"start_anchor": "x", "fields": {"content": {"opn": "("}}},
        {"start_anchor": "x"},
        {"start_anchor": "x", "fields": {"content": 1}},
    ],
)
def test_a_template_that_is_not_valid_is_told_with_its_origin(template: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.toml"):
        TemplateSyntax(template, "model.toml")


def test_its_calls_cannot_be_forced() -> None:
    with pytest.raises(InvalidRequest, match="cannot be forced"):
        TemplateSyntax(NAMED, "a template").grammar(Lark({}), [], ToolChoice())
