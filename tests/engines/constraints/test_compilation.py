"""Constraints of every kind, and bombs: refused at once, or harmless."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from engines.constraints.small import allowed, can_end, follow, of_schema, rule_of, token

from llmserve.domain import Constraint, ConstraintKind
from llmserve.errors import InvalidRequest


def nested(count: int, wrap: Callable[[Any], Any], inner: Any) -> Any:
    for _ in range(count):
        inner = wrap(inner)
    return inner


def chain(count: int, link: Callable[[int], Any]) -> Any:
    links = {f"d{i}": link(i + 1) for i in range(count)}
    return {"$defs": {**links, f"d{count}": {"type": "null"}}, **link(0)}


REFUSED: dict[str, Any] = {
    "deep": nested(90, lambda x: {"properties": {"a": x}}, {}),
    "very deep": '{"items":' * 5000 + "{}" + "}" * 5000,
    "wide": nested(12, lambda x: {"anyOf": [x, x]}, {"type": "string"}),
    "long": {"description": "x" * 300_000},
    "values": {"enum": list(range(20_000))},
    "properties": {"properties": {f"p{i}": {} for i in range(5000)}},
    "pattern properties": {"patternProperties": {f"^{i}$": {} for i in range(300)}},
    "items": {"type": "array", "minItems": 10**9},
    "length": {"type": "string", "minLength": 10**9},
    "repetitions": {"type": "string", "pattern": "^((a{1000}){1000}){1000}$"},
    "patterns": {"allOf": [{"type": "string", "pattern": f"a.{{{10 + i}}}b"} for i in range(20)]},
    "hidden patterns": {
        "allOf": [{"$ref": f"#/$defs/{i}"} for i in range(20)],
        "$defs": {str(i): {"type": "string", "pattern": f"a.{{{10 + i}}}b"} for i in range(20)},
    },
    "products": {
        "allOf": [
            {"anyOf": [{"type": "object", "properties": {f"{i}{j}": {}}} for j in range(10)]}
            for i in range(5)
        ]
    },
    "options": {"anyOf": [{"type": "array", "maxItems": i} for i in range(1001)]},
    "divisor": {"type": "integer", "multipleOf": 1000003},
    "divisors": {"type": "integer", "allOf": [{"multipleOf": 1021}, {"multipleOf": 1019}]},
    "twins": {
        "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
        "$defs": {
            name: {"type": "object", "properties": {"x": {"$ref": f"#/$defs/{name}"}}}
            for name in "ab"
        },
    },
}
HARMLESS: dict[str, Any] = {
    "doubled": chain(30, lambda i: {"anyOf": [{"$ref": f"#/$defs/d{i}"}] * 2}),
    "doubled in all": chain(30, lambda i: {"allOf": [{"$ref": f"#/$defs/d{i}"}] * 2}),
    "divisors": {"allOf": [{"multipleOf": 0.5}, {"multipleOf": 64}, {"type": "number"}]},
    "constants": {"anyOf": [{"const": i} for i in range(3000)]},
    "most items": {"type": "array", "maxItems": 10**9},
    "boxes": nested(6, lambda x: {"type": "array", "minItems": 999, "items": x}, {}),
    "most length": {"type": "string", "maxLength": 10**9},
    "states": {"type": "string", "pattern": "(a|b)*a(a|b){30}"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_bombs_are_refused_with_a_pointer(name: str) -> None:
    bomb = REFUSED[name]
    source = bomb if isinstance(bomb, str) else json.dumps(bomb)
    with pytest.raises(InvalidRequest, match=r"^#") as refused:
        rule_of(Constraint(ConstraintKind.JSON_SCHEMA, source, param="guided_json"))
    assert refused.value.param == "guided_json"
    assert len(refused.value.message) < 1000


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_large_is_served(name: str) -> None:
    assert allowed(rule_of(of_schema(HARMLESS[name])))


@pytest.mark.parametrize(
    "source", ["", "{", '{"a": NaN}', '"\\ud800"', "[1,]", '{"const": 1e999}', "nul"]
)
def test_what_is_no_json_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^#"):
        rule_of(Constraint(ConstraintKind.JSON_SCHEMA, source))


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (ConstraintKind.REGEX, "\\"), (ConstraintKind.REGEX, "a\\\\\\"),
        (ConstraintKind.REGEX, "(a"), (ConstraintKind.REGEX, "(?=a)"),
        (ConstraintKind.REGEX, "[^\\s\\S]"), (ConstraintKind.CHOICE, "[]"),
        (ConstraintKind.CHOICE, '"a"'), (ConstraintKind.CHOICE, '[""]'),
        (ConstraintKind.CHOICE, "[1]"), (ConstraintKind.GRAMMAR, ""),
        (ConstraintKind.GRAMMAR, "start: nothing"), (ConstraintKind.GRAMMAR, "root ::= none"),
        (ConstraintKind.GRAMMAR, "root ::= " + "(" * 3000 + '"a"' + ")" * 3000),
        (ConstraintKind.GRAMMAR, "start: " + "(" * 3000 + '"a"' + ")" * 3000),
        (ConstraintKind.GRAMMAR, "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(5000))),
        (ConstraintKind.GRAMMAR, "start: R0\n"
         + "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(30)) + '\nR30: "a"'),
        (ConstraintKind.GRAMMAR, "start: %json {"), (ConstraintKind.GRAMMAR, "start: start"),
        (ConstraintKind.GRAMMAR, 'start: "a" %json {"not": {}}'),
        (ConstraintKind.GRAMMAR, "{"), (ConstraintKind.GRAMMAR, "{}"),
        (ConstraintKind.GRAMMAR, '{"grammars": []}'), (ConstraintKind.GRAMMAR, '{"grammars": [1]}'),
        (ConstraintKind.GRAMMAR, ' {"grammars": [{"json_schema": {"type": "integer"}}]}'),
        (ConstraintKind.GRAMMAR, '{"grammars": [{"lark_grammar": "start: /a/"}]}'),
        (ConstraintKind.GRAMMAR, '%llguidance words\nstart: "a"'),
        (ConstraintKind.GRAMMAR, '%llguidance [1]\nstart: "a"'),
        (ConstraintKind.GRAMMAR, "%llguidance"),
        (ConstraintKind.GRAMMAR, "start: " + ' | '.join(['"a"'] * 5001)),
        (ConstraintKind.GRAMMAR, "start: " + "a? " * 5001 + '\na: "a"'),
        (ConstraintKind.GRAMMAR, "root ::= " + '"a"? ' * 5001),
    ],
)  # fmt: skip
def test_what_is_no_grammar_is_refused(kind: ConstraintKind, source: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rule_of(Constraint(kind, source, param="guided"))
    assert refused.value.param == "guided"


@pytest.mark.parametrize(
    ("kind", "source", "text"),
    [
        (ConstraintKind.JSON_OBJECT, "", '{"name": "Anna", "age": 7}'),
        (ConstraintKind.JSON_OBJECT, "", '{"a":[1,{"b":null}],"c":"é"}'),
        (ConstraintKind.JSON_SCHEMA, "true", "[1, 2]"),
        (ConstraintKind.REGEX, "^a+b$", "aab"),
        (ConstraintKind.CHOICE, '["a\\"b", "c\\nd", "中"]', "c\nd"),
        (ConstraintKind.CHOICE, '["", "yes"]', ""),
        (ConstraintKind.GRAMMAR, 'root ::= item ("," item)*\nitem ::= [0-9]+ | "x-y"', "12,x-y"),
        (ConstraintKind.GRAMMAR, 'start: "%json {" NAME // %json {\nNAME: /[a-z"]+/', '%json {a"'),
        (ConstraintKind.GRAMMAR, 'start: "<" %json {"const": {"a": 1}} ">"', '<{"a": 1}>'),
        (ConstraintKind.GRAMMAR, '\n%llguidance {"x":\n1} // words\nstart: "ab"', "ab"),
    ],
)
def test_texts_of_the_language_are_followed_to_their_end(
    kind: ConstraintKind, source: str, text: str
) -> None:
    rule = rule_of(Constraint(kind, source))
    assert follow(rule, text)
    assert can_end(rule)


def test_a_grammar_of_which_no_text_ends_is_told_as_such() -> None:
    with pytest.raises(InvalidRequest, match="allows no text that ends"):
        rule_of(Constraint(ConstraintKind.GRAMMAR, "root ::= root"))


@pytest.mark.parametrize(
    "text", ['{ "a"', '{"a":  1', '{"a":\n', '{\n', '{"a" :', '{"a":1 ', ' {', '{"a": 1,  "b"']
)  # fmt: skip
def test_white_space_is_one_space_after_a_separator(text: str) -> None:
    assert not follow(rule_of(Constraint(ConstraintKind.JSON_OBJECT)), text)
    within = Constraint(ConstraintKind.GRAMMAR, 'start: %json {"type": "object"}')
    assert not follow(rule_of(within), text)


def test_only_the_end_may_follow_a_whole_document() -> None:
    rule = rule_of(of_schema({"const": 5}))
    assert not rule.is_complete
    assert follow(rule, "5")
    assert rule.is_complete
    assert allowed(rule) == [token("<|end|>")]
    rule.accept(token("<|end|>"))
    assert rule.is_complete


def test_masks_do_not_change_until_a_token_is_accepted_and_rules_are_apart() -> None:
    rule, other = rule_of(of_schema({"enum": ["ab", "ac"]})), rule_of(of_schema({"const": 1}))
    assert allowed(rule) == allowed(rule)
    assert follow(rule, '"a')
    assert allowed(other) != allowed(rule)
