"""What a grammar allows is read as calls whose arguments match the tools' schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from marked_tokenizer import accepts, marked_tokenizer, walk
from reading import NOTHING, TOOLS, WEATHER, read, tool

from llmserve.domain import Tool, ToolCall, ToolChoice, ToolMode
from llmserve.text.output.choice import ChosenSyntax
from llmserve.text.output.families import FAMILIES, HARMONY, HERMES, LLAMA_JSON, QWEN_XML
from llmserve.text.output.output_reader import OutputReader
from llmserve.text.output.syntax import FamilySyntax, MarkedSyntax

SCHEMAS = {"weather": WEATHER, "ping": NOTHING}
STRICT = (tool("weather", WEATHER, is_strict=True), TOOLS[1])
OPENING = "<|start|>assistant"
REQUIRED = ToolChoice(ToolMode.REQUIRED)
ONE = ToolChoice(ToolMode.REQUIRED, is_parallel=False)

EACH = pytest.mark.parametrize("syntax", FAMILIES.values(), ids=list(FAMILIES))
AS_TOKENS = pytest.mark.parametrize("as_tokens", ["special", "added", "text"])


def kind(syntax: FamilySyntax, as_tokens: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The delimiters that are special tokens, and those that are only tokens."""
    markers = tuple(dict.fromkeys(marker.strip() for marker in syntax.markers))
    return {"special": (markers, ()), "added": ((), markers), "text": ((), ())}[as_tokens]


def grammar_of(
    syntax: FamilySyntax, tools: tuple[Tool, ...], choice: ToolChoice, as_tokens: str = "text"
) -> str:
    reader = OutputReader(ChosenSyntax(syntax, ""), marked_tokenizer(*kind(syntax, as_tokens)))
    grammar = reader.grammar(tools, choice)
    assert grammar is not None
    return grammar


def check(syntax: FamilySyntax, written: str) -> int:
    """How many calls there are, all of them valid."""
    calls = read(syntax, written, tools=STRICT, opening=OPENING).calls
    for name, arguments in calls:
        assert jsonschema_rs.is_valid(SCHEMAS[name], json.loads(arguments)), written
    return len(calls)


@EACH
@AS_TOKENS
def test_an_answer_that_must_call_calls(syntax: FamilySyntax, as_tokens: str) -> None:
    special, plain = kind(syntax, as_tokens)
    for seed, choice in ((1, REQUIRED), (2, ONE)):
        written = walk(grammar_of(syntax, TOOLS, choice, as_tokens), seed, special, plain)
        if written is None:  # without tokens as delimiters, random text may go on and on
            assert as_tokens == "text"
            continue
        assert read(syntax, written, tools=STRICT, opening=OPENING).text == ""
        num_calls = check(syntax, written)
        assert num_calls >= 1
        assert num_calls == 1 or choice.is_parallel


@EACH
@AS_TOKENS
def test_an_answer_that_begins_a_call_goes_on_as_one(syntax: FamilySyntax, as_tokens: str) -> None:
    special, plain = kind(syntax, as_tokens)
    if isinstance(syntax, MarkedSyntax):
        begun = syntax.calls.triggers[0] if not syntax.calls.is_bare else None
        first = f"So: {begun}" if begun else "{" if syntax.name == "llama_json" else "["
    else:
        first = "<|channel|>commentary to="
    grammar = grammar_of(syntax, STRICT, ToolChoice(), as_tokens)
    written = walk(grammar, 1, special, plain, first)
    assert written is not None
    assert check(syntax, written) >= 1


@EACH
def test_free_text_stays_free_where_calls_are_only_strict(syntax: FamilySyntax) -> None:
    grammar = grammar_of(syntax, STRICT, ToolChoice())
    said = "Yes, it is.\n"
    text = f"<|channel|>final<|message|>{said}" if syntax is HARMONY else said
    assert accepts(grammar, text)


@EACH
def test_what_the_family_writes_is_allowed_and_nothing_else(syntax: FamilySyntax) -> None:
    calls = [ToolCall("", "weather", '{"city": "Oslo", "days": 2}')]
    wrong = [
        ToolCall("", "weather", '{"city": "Oslo", "days": 21}'),
        ToolCall("", "weather", '{"days": 2}'),
        ToolCall("", "ping", "{}"),
    ]
    grammar = grammar_of(syntax, STRICT, ToolChoice(ToolMode.REQUIRED, ("weather",)))
    end = "<|call|>" if syntax is HARMONY else ""
    assert accepts(grammar, syntax.write(calls) + end)
    assert not accepts(grammar, "Yes.")
    for call in wrong:
        assert not accepts(grammar, syntax.write([call]) + end)


def test_several_calls_are_allowed_unless_only_one_may_be() -> None:
    written = HERMES.write([ToolCall("", "ping", "{}")] * 2)
    assert accepts(grammar_of(HERMES, TOOLS, REQUIRED), written)
    assert not accepts(grammar_of(HERMES, TOOLS, ONE), written)


def test_calls_may_follow_reasoning_after_an_empty_line() -> None:
    written = HERMES.write([ToolCall("", "ping", "{}")])
    assert accepts(grammar_of(HERMES, TOOLS, REQUIRED), f"\n\n{written}")


def test_harmony_may_think_before_it_calls() -> None:
    thought = f"<|channel|>analysis<|message|>Hm.<|end|>{OPENING}"
    written = thought + HARMONY.write([ToolCall("", "ping", "{}")]) + "<|call|>"
    assert accepts(
        grammar_of(HARMONY, TOOLS, REQUIRED, "special"), written, kind(HARMONY, "special")[0]
    )


def test_a_text_cannot_contain_the_delimiter_that_ends_it() -> None:
    grammar = grammar_of(QWEN_XML, STRICT, REQUIRED)
    city = "\n</parameter>x"
    call = ToolCall("", "weather", json.dumps({"city": city, "days": 1}))
    assert not accepts(grammar, QWEN_XML.write([call]))


@pytest.mark.parametrize(
    "syntax", [HERMES, QWEN_XML, FAMILIES["gemma_4"], FAMILIES["llama_python"]]
)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"properties": {"a": {"type": "integer"}}},
        {"type": "object", "properties": {"a": {}}, "required": ["a", "b"]},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"anyOf": [{"type": "null"}]}},
            "required": ["a"],
            "$defs": {"n": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        },
        {"type": "object", "properties": {"a": {"const": 3}, "c": {"enum": ["x y", "z"]}}},
        {"type": "object", "properties": {"a": {"type": ["integer", "null"]}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "array", "minItems": 2}}},
        {"type": "object", "properties": {"a": {"type": "string", "format": "nonsense"}}},
    ],
)  # fmt: skip
def test_schemas_of_every_kind_make_grammars(syntax: FamilySyntax, schema: dict[str, Any]) -> None:
    tools = (tool("f", schema),)
    written = walk(grammar_of(syntax, tools, ONE), 1, max_tokens=1000)
    if written is not None:
        ((name, arguments),) = read(syntax, written, tools=tools).calls
        assert name == "f"
        assert jsonschema_rs.is_valid(schema, json.loads(arguments)), written


def test_keywords_that_cannot_be_enforced_are_an_error_of_strict_tools_only() -> None:
    schema = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
    loose = grammar_of(LLAMA_JSON, (tool("f", schema),), REQUIRED)
    assert walk(loose, 1) is not None
    strict = grammar_of(LLAMA_JSON, (tool("f", schema, is_strict=True),), REQUIRED)
    with pytest.raises(AssertionError, match="not"):
        walk(strict, 1)
