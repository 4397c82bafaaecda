"""Grammars of requests: GBNF becomes Lark, and the JSON schemas within are read like any other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from llguidance.gbnf_to_lark import gbnf_to_lark

MAX_NESTING: Final = 100
MAX_RULES: Final = 1000
MAX_SYMBOLS: Final = 5000
"""Names and literals. llguidance searches all that may come next for each item that it adds, and
holds the GIL while it takes a token: 20,000 items stop every answer for seconds."""
_RULE: Final = re.compile(
    r"^[ \t]*[?!]?[\w-]+(?:\[[^\]\n]*\])?(?:\.\d+)?[ \t]*(?:::=|:)", re.MULTILINE
)
_TOKEN: Final = re.compile(
    r'"(?:\\.|[^"\\\n])*"'  # a literal
    r"|(?://|\#)[^\n]*"  # a comment
    r"|/(?:\\.|[^/\\\n])+/"  # an expression
    r"|%json\b|[(\[{]|[)\]}]|::="
)
_SYMBOL: Final = re.compile(rf"{_TOKEN.pattern}|(?P<name>[\w-]+)")


class GrammarRefused(ValueError):
    """The text is no grammar that can be served; says why."""


def to_lark(text: str, rewrite: Callable[[Any], str]) -> str:
    """The grammar in llguidance's Lark; `rewrite` makes the text of each schema after `%json`.

    Raises:
        GrammarRefused: it cannot be read.
    """
    if text.lstrip().startswith("{"):  # llguidance's own form of grammars, which nothing bounds
        raise GrammarRefused("JSON is no grammar; send Lark or GBNF, or a JSON schema as such")
    if sum(1 for _ in _RULE.finditer(text)) > MAX_RULES:
        raise GrammarRefused(f"it has more than {MAX_RULES:,} rules; split it")
    if _is_gbnf(text):
        _check_nesting(text)
        try:
            text = gbnf_to_lark(text)
        # A parser of text that strangers write: it raises plain exceptions.
        except Exception as error:
            raise GrammarRefused(f"it is no GBNF: {error}") from None
    return _rewritten(text, rewrite)


def unforced(grammar: str) -> str:
    """The same grammar, as Lark in which llguidance looks ahead for no text that must follow.

    Where it does, it tokenizes that text; a delimiter in it, such as `<think>` in an enum, then
    comes as the delimiter's own token, which the grammar does not take.

    Raises:
        GrammarRefused: its options are no JSON object.
    """
    if grammar.startswith("{"):
        first = json.loads(grammar)["grammars"][0]
        schema = first.get("json_schema")
        of_schema = f"start: %json {json.dumps(schema)}\n"
        grammar = first["lark_grammar"] if schema is None else of_schema
    options, rules = _options(grammar)
    return f"%llguidance {json.dumps(options | {'no_forcing': True})}\n{rules}"


def _options(grammar: str) -> tuple[dict[str, Any], str]:
    """What a grammar says of itself in its first line, and the rest."""
    text = grammar.lstrip()
    if not text.startswith("%llguidance"):
        return {}, grammar
    text = text.removeprefix("%llguidance").lstrip(" \t")
    try:
        options, end = json.JSONDecoder().raw_decode(text)
    except ValueError as error:
        raise GrammarRefused(f"after %llguidance comes no JSON: {error}") from None
    if not isinstance(options, dict):
        raise GrammarRefused("after %llguidance comes no JSON object")
    return options, text[end:]


def _is_gbnf(text: str) -> bool:
    return any(match[0] == "::=" for match in _TOKEN.finditer(text))


def _check_nesting(text: str) -> None:
    deepest = depth = 0
    for match in _TOKEN.finditer(text):
        depth += (match[0] in "([{") - (match[0] in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        raise GrammarRefused(f"its groups are nested more than {MAX_NESTING} deep")


def _check_size(text: str) -> None:
    count = sum(
        match["name"] is not None or (match[0][0] in '"/' and match[0][:2] != "//")
        for match in _SYMBOL.finditer(text)
    )
    if count > MAX_SYMBOLS:
        raise GrammarRefused(
            f"it has {count:,} names and literals and may have {MAX_SYMBOLS:,}; write some of them "
            "as one expression"
        )


def _rewritten(text: str, rewrite: Callable[[Any], str]) -> str:
    decoder = json.JSONDecoder()
    written: list[str] = []
    at = copied = 0
    while match := _TOKEN.search(text, at):
        at = match.end()
        if match[0] != "%json":
            continue
        begin = at + len(text[at:]) - len(text[at:].lstrip())
        try:
            schema, end = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            raise GrammarRefused(f"after %json comes no JSON: {error}") from None
        written += [text[copied:at], " ", rewrite(schema)]
        at = copied = end
    lark = "".join([*written, text[copied:]])
    outside = "".join([*written[::3], text[copied:]])
    _check_nesting(outside)
    _check_size(outside)
    return lark
