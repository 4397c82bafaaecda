"""Grammars as text: GBNF and Lark, their schemas, and what bounds them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmserve.engines.constraints.grammar_text import (
    MAX_SYMBOLS,
    GrammarRefused,
    to_lark,
    unforced,
)


def read(text: str) -> tuple[str, list[Any]]:
    """The Lark of a grammar in which every schema is `SCHEMA`, and the schemas."""
    schemas: list[Any] = []

    def rewrite(schema: Any) -> str:
        schemas.append(schema)
        return "SCHEMA"

    return to_lark(text, rewrite), schemas


@pytest.mark.parametrize("text", ["{", " \n{}", '{"grammars": [{"lark_grammar": "start: /a/"}]}'])
def test_json_is_no_grammar(text: str) -> None:
    with pytest.raises(GrammarRefused, match="JSON is no grammar"):
        read(text)


@pytest.mark.parametrize("options", ["", "words", "[1]", "1", "{"])
def test_options_that_are_no_object_are_refused(options: str) -> None:
    with pytest.raises(GrammarRefused, match="after %llguidance comes no JSON"):
        unforced(f'%llguidance {options}\nstart: "a"')


@pytest.mark.parametrize(
    ("grammar", "options", "rest"),
    [
        ('start: "a"', {}, 'start: "a"'),
        ('%llguidance {}\nstart: "a"', {}, '\nstart: "a"'),
        ('\n%llguidance {"x":\n1} // y\nstart: "a"', {"x": 1}, ' // y\nstart: "a"'),
        ('%llguidance{"no_forcing": false}\nstart: "a"', {}, '\nstart: "a"'),
    ],
)
def test_options_are_kept_but_for_the_one_that_is_ours(
    grammar: str, options: dict[str, Any], rest: str
) -> None:
    line, _, rules = unforced(grammar).partition("\n")
    written = json.loads(line.removeprefix("%llguidance "))
    assert written == options | {"no_forcing": True}
    assert rules == rest


def test_schemas_are_rewritten_where_they_are_not_text() -> None:
    text = 'start: "%json {" A // %json {\nA: %json {"a": [1]} /%json {/ %json true'
    lark, schemas = read(text)
    assert schemas == [{"a": [1]}, True]
    assert lark == 'start: "%json {" A // %json {\nA: %json SCHEMA /%json {/ %json SCHEMA'


@pytest.mark.parametrize("repeated", ['"a" ', "a? ", "/a/ ", '| "a" '])
def test_names_and_literals_are_counted(repeated: str) -> None:
    rest = MAX_SYMBOLS - 1 - 2  # `start` is a name; the second rule has two
    rules = '\na: "a" // "comments" do not count\n# nor do these'
    assert read(f"start: {repeated * rest}{rules}")[1] == []
    with pytest.raises(GrammarRefused, match="names and literals"):
        read(f"start: {repeated * (rest + 1)}{rules}")


def test_what_is_in_schemas_is_not_counted() -> None:
    schema = json.dumps({"enum": [str(i) for i in range(2 * MAX_SYMBOLS)]})
    assert read(f"start: %json {schema}")[0] == "start: %json SCHEMA"


def test_gbnf_becomes_lark() -> None:
    lark, _ = read('root ::= "a" item\nitem ::= [0-9]+')
    assert "start:" in lark
    assert "::=" not in lark
