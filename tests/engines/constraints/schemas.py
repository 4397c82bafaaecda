"""Hundreds of small schemas over all keywords: those that are served, and those that are refused
with the pointer of what is at fault."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final

Schema = dict[str, Any]

SCALARS: Final[tuple[Schema, ...]] = (
    {"type": "null"}, {"type": "boolean"}, {"type": "integer"}, {"type": "number"},
    {"type": "string", "maxLength": 6},
    {"const": 1}, {"const": "a \"b\" \\ / é 中"}, {"const": None}, {"const": [1, {"a": None}]},
    {"const": {"x": 1.5, "y": [True]}}, {"const": -0.25}, {"const": ""}, {"const": "line\nbreak\t"},
    {"enum": ["red", "green", "blue"]}, {"enum": [1, "1", None, True, [1], {"a": 1}]},
    {"enum": [1.5, 2, -3]}, {"type": "string", "enum": ["a", "b", 3]},
    {"type": ["string", "null"], "maxLength": 4}, {"type": ["integer", "boolean", "array"]},
    {"type": "integer", "minimum": 3}, {"type": "integer", "maximum": -7},
    {"type": "integer", "minimum": -5, "maximum": 17}, {"type": "integer", "exclusiveMinimum": 0},
    {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
    {"type": "integer", "minimum": 0.5, "maximum": 9.5}, {"type": "integer", "multipleOf": 7},
    {"type": "integer", "multipleOf": 5, "minimum": 10, "maximum": 100},
    {"type": "number", "minimum": 0, "maximum": 1}, {"type": "number", "exclusiveMinimum": 0.5},
    {"type": "number", "exclusiveMaximum": 0}, {"type": "number", "minimum": -1.25, "maximum": 8},
    {"type": "number", "multipleOf": 0.5}, {"type": "number", "multipleOf": 3},
    {"type": "number", "multipleOf": 0.25, "minimum": 1, "maximum": 4},
    {"type": "integer", "multipleOf": 0.5}, {"type": "integer", "maximum": 2**63},
    {"type": "number", "minimum": -(10**30), "maximum": 10**30},
    {"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 1},
    {"type": "integer", "minimum": 99, "maximum": 1001}, {"type": "number", "minimum": 1e-3},
    {"type": "string", "minLength": 3, "maxLength": 5}, {"type": "string", "maxLength": 0},
    {"type": "string", "minLength": 2.0, "maxLength": 4},
    {"type": "string", "maxLength": 10**12, "pattern": "^[ab]{1,4}$"},
)  # fmt: skip
PATTERNS: Final = (
    "^ab?c$", "^[a-z]{2,4}$", "^\\d{3}-\\d{2}$", "^\\w{1,5}$", "^\\W{1,3}$", "^\\D{1,3}$",
    "^\\S{1,4}$", "^[^\\w\\s]{1,3}$", "^[^\\W_]{1,3}$", "^[^\\d]{2}$", "^[^\\S]{1,2}$",
    "^[\\w.-]{1,4}$", "^[\\W]{1,2}$", "^[[a]{1,2}$", "^[a&&b]{1,2}$", "^[]x]{1,2}$", "^\\<\\>$",
    "^(red|green|blue)$", "^(?:a|b){2}$", "^a.c$", "^x*y+z?$", "^.{1,3}$", "^(a|ab)(c|bcd)$",
    "^\\u0041\\x42$", "^\\$\\^\\.\\*$", "^[é中]{1,2}$", "^\\s?x$", "^(a{2}){2}$", "^$",
    "^[A-Z][a-z]{0,3}( [A-Z][a-z]{0,3}){0,2}$", "^a|b$", "^(^a|b$)", "\\.(jpg|png)$",
)  # fmt: skip
FORMATS: Final = (
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
)  # fmt: skip
OTHER_FORMATS: Final = ("int32", "password", "iri", "idn-email", "regex", "my-own", "binary")
ARRAYS: Final[tuple[Schema, ...]] = (
    {"type": "array", "items": {"type": "integer"}}, {"type": "array", "maxItems": 3},
    {"type": "array", "minItems": 2, "maxItems": 4, "items": {"type": "boolean"}},
    {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}]},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False},
    {"type": "array", "prefixItems": [{"const": 1}], "items": {"enum": ["a"]}, "minItems": 3},
    {"type": "array", "maxItems": 0}, {"type": "array", "items": False},
    {"type": "array", "items": {"type": "array", "items": {"type": "null"}}},
    {"type": "array", "uniqueItems": False, "items": {"type": "null"}},
    {"type": "array", "uniqueItems": True, "maxItems": 1, "items": {"type": "null"}},
    {"type": "array", "minContains": 2, "items": {"type": "null"}},
    {"type": "array", "maxItems": 2**40, "items": {"type": "null"}},
    {"items": {"const": 0}, "maxItems": 2},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
     "items": [{"type": "null"}, {"type": "integer"}], "additionalItems": False},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
     "items": [{"type": "null"}], "additionalItems": {"const": "x"}, "minItems": 2},
    {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "minimum": 3,
     "exclusiveMinimum": True, "maximum": 5},
)  # fmt: skip
NAME: Final = {"type": "string", "maxLength": 5}
OBJECTS: Final[tuple[Schema, ...]] = (
    {"type": "object"}, {"type": "object", "properties": {"a": {"type": "null"}}},
    {"type": "object", "properties": {"name": NAME, "age": {"type": "integer"}},
     "required": ["name", "age"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["b"]},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": NAME},
    {"type": "object", "properties": {"a/b": {"const": 1}, "~": {"const": 2}, "é\"": {"const": 3}},
     "required": ["a/b", "~", "é\""]},
    {"type": "object", "required": ["x"], "additionalProperties": {"type": "boolean"}},
    {"type": "object", "required": ["x", "y"]},
    {"type": "object", "patternProperties": {"^x[0-9]{1,2}$": {"type": "integer"}},
     "additionalProperties": False},
    {"type": "object", "patternProperties": {"^i_": {"type": "integer"}, "^s_": NAME},
     "additionalProperties": {"type": "null"}},
    {"type": "object", "properties": {"i_a": {"minimum": 5}},
     "patternProperties": {"^i_": {"type": "integer"}}, "required": ["i_a"]},
    {"type": "object", "minProperties": 1, "additionalProperties": {"type": "null"}},
    {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "null"}},
    {"type": "object", "minProperties": 2, "required": ["a"],
     "properties": {"a": {"type": "null"}}},
    {"type": "object", "minProperties": 1, "properties": {"a": {"type": "null"},
     "b": {"type": "null"}}, "additionalProperties": False},
    {"type": "object", "maxProperties": 1, "properties": {"a": {"type": "null"},
     "b": {"type": "null"}}, "additionalProperties": False},
    {"type": "object", "properties": {"a": False}, "additionalProperties": {"const": 1}},
    {"type": "object", "properties": {"a": True, "b": {}}, "additionalProperties": False},
    {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {"type": "object", "propertyNames": True, "dependentRequired": {}, "maxProperties": 1},
    {"type": "object", "additionalProperties": False},
)  # fmt: skip
COMBINED: Final[tuple[Schema, ...]] = (
    {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    {"anyOf": [{"const": 1}, {"type": "string", "maxLength": 3}], "type": "string"},
    {"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 9}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
               {"properties": {"a": {"minimum": 5}, "b": {"type": "null"}}}]},
    {"allOf": [{"anyOf": [{"const": 1}, {"const": 2}]}, {"anyOf": [{"const": 2}, {"const": 3}]}]},
    {"allOf": [{"type": "string", "pattern": "^a"}, {"pattern": "b$", "maxLength": 5}]},
    {"allOf": [{"multipleOf": 2, "type": "integer"}, {"multipleOf": 3}]},
    {"oneOf": [{"type": "null"}, {"type": "string", "maxLength": 4}]},
    {"oneOf": [{"const": 1}, {"const": 2}, {"enum": [3, 4]}]},
    {"oneOf": [{"type": "integer"}, {"type": "boolean"}, {"type": "array", "maxItems": 1}]},
    {"oneOf": [{"type": "object", "properties": {"k": {"const": "a"}, "v": {"type": "integer"}},
                "required": ["k", "v"], "additionalProperties": False},
               {"type": "object", "properties": {"k": {"const": "b"}, "w": NAME},
                "required": ["k", "w"], "additionalProperties": False}]},
    {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
     "discriminator": {"propertyName": "kind"},
     "$defs": {"cat": {"type": "object", "properties": {"kind": {"const": "cat"}},
                       "required": ["kind"], "additionalProperties": False},
               "dog": {"type": "object", "properties": {"kind": {"const": "dog"},
                       "age": {"type": "integer"}}, "required": ["kind"],
                       "additionalProperties": False}}},
    {"oneOf": [{"type": "null"}], "anyOf": [{"type": ["null", "integer"]}], "allOf": [True]},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": "x"}}},
    {"$ref": "#/$defs/a%25b%20c", "$defs": {"a%b c": {"const": "x"}}},
    {"$ref": "#/definitions/a", "definitions": {"a": {"enum": [1, 2]}}},
    {"$ref": "#/$defs/a", "minimum": 5, "$defs": {"a": {"type": "integer", "maximum": 8}}},
    {"$id": "http://example.com/s", "$ref": "http://example.com/s#/$defs/a",
     "$defs": {"a": {"const": 1}}},
    {"properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}}, "type": "object",
     "required": ["a", "b"], "additionalProperties": False},
    {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
     "required": ["next"], "additionalProperties": False},
    {"$defs": {"tree": {"type": "object", "properties": {"v": {"type": "integer"}, "kids":
     {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}}, "required": ["v"],
     "additionalProperties": False}}, "$ref": "#/$defs/tree"},
    {"$defs": {"e": {"oneOf": [{"type": "integer"}, {"type": "object", "properties": {"op":
     {"enum": ["+", "-"]}, "l": {"$ref": "#/$defs/e"}, "r": {"$ref": "#/$defs/e"}}, "required":
     ["op", "l", "r"], "additionalProperties": False}]}}, "$ref": "#/$defs/e"},
    {"if": {"type": "string"}, "type": "integer"}, {"then": False, "type": "integer"},
    {"not": False, "type": "null"}, {"unevaluatedProperties": True, "type": "null"},
    {"type": "integer", "$defs": {"unused": {"not": {}}}},
    {"anyOf": [False, {"type": "null"}]},
)  # fmt: skip
ANNOTATIONS: Final[tuple[Schema, ...]] = tuple(
    {"type": "integer", **extra}
    for extra in (
        {"title": "t"}, {"description": "d"}, {"examples": [1, "x"]}, {"default": "other"},
        {"$comment": "c"}, {"x-order": 3}, {"deprecated": True}, {"readOnly": True},
        {"contentEncoding": "base64"}, {"nullable": True}, {"x-guidance": {"lenient": True}},
        {"$anchor": "here"}, {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"unknown": {"type": "strin"}}, {"minLength": 3}, {"required": ["a"]}, {"format": "int32"},
    )
)  # fmt: skip


def served() -> Iterator[Schema]:
    """All that are served, alone and within objects, arrays and alternatives."""
    patterns = [{"type": "string", "pattern": pattern} for pattern in PATTERNS]
    formats = [{"type": "string", "format": name} for name in FORMATS]
    others = [{"type": "string", "format": name, "maxLength": 3} for name in OTHER_FORMATS]
    alone = [*SCALARS, *patterns, *formats, *others, *ARRAYS, *OBJECTS, *COMBINED, *ANNOTATIONS]
    yield from alone
    small = [*SCALARS, *patterns[:20]]
    for schema in small:
        yield {
            "type": "object",
            "properties": {"a": schema, "b": {"type": "boolean"}},
            "required": ["a"],
            "additionalProperties": False,
        }
    for one, other in list(combinations(SCALARS, 2))[::15]:
        yield {"anyOf": [one, other]}
    for schema in small[::2]:
        yield {"type": "array", "items": schema, "minItems": 1, "maxItems": 2}


REFUSED: Final[tuple[tuple[Any, str], ...]] = (
    ({"not": {}}, "#/not"),
    ({"type": "object", "properties": {"a": {"not": {"type": "null"}}}}, "#/properties/a/not"),
    ({"if": {}, "then": {}}, "#/if"), ({"type": "array", "contains": {}}, "#/contains"),
    ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
    ({"propertyNames": {"pattern": "a"}}, "#/propertyNames"),
    ({"dependentSchemas": {"a": {}}}, "#/dependentSchemas"),
    ({"dependentRequired": {"a": ["b"]}}, "#/dependentRequired"),
    ({"dependencies": {"a": ["b"]}}, "#/dependencies"),
    ({"unevaluatedProperties": False}, "#/unevaluatedProperties"),
    ({"unevaluatedItems": False}, "#/unevaluatedItems"), ({"$dynamicRef": "#a"}, "#/$dynamicRef"),
    ({"type": "strin"}, "#/type"), ({"type": []}, "#/type"), ({"type": 3}, "#/type"),
    ({"required": 3}, "#/required"), ({"required": ["a", "a"]}, "#/required"),
    ({"properties": []}, "#/properties"), ({"properties": {"a": 3}}, "#/properties/a"),
    ({"items": 3}, "#/items"), ({"items": [{}]}, "#/items"), ({"prefixItems": []}, "#/prefixItems"),
    ({"anyOf": []}, "#/anyOf"), ({"allOf": {}}, "#/allOf"), ({"enum": 3}, "#/enum"),
    ({"enum": []}, "#/enum"), ({"minLength": -1}, "#/minLength"), ({"minimum": "3"}, "#/minimum"),
    ({"exclusiveMinimum": True}, "#/exclusiveMinimum"), ({"multipleOf": 0}, "#/multipleOf"),
    ({"pattern": 3}, "#/pattern"), ({"format": 3}, "#/format"), ({"title": 3}, "#/title"),
    ({"additionalProperties": "no"}, "#/additionalProperties"), ({"$ref": 3}, "#/$ref"),
    ({"$defs": {"a": {"type": "strin"}}}, "#/$defs/a/type"), ({"$defs": {"a": 3}}, "#/$defs/a"),
    ({"$ref": "#/$defs/none"}, "#/$ref"), ({"$ref": "http://example.com/x"}, "#/$ref"),
    ({"properties": {"a": {"$ref": "#/x/9"}}}, "#/properties/a/$ref"), (False, "#"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "#"), ([], "#"), ("x", "#"), (None, "#"),
    ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "#"),
    ({"type": "string", "minLength": 5, "maxLength": 3}, "#"),
    ({"type": "string", "pattern": "^a$", "const": "b"}, "#"),
    ({"allOf": [{"type": "string"}, {"type": "null"}]}, "#"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "#"),
    ({"type": "array", "minItems": 1, "items": False}, "#"), ({"anyOf": [False, False]}, "#"),
    ({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}, "#"),
    ({"$ref": "#"}, "#"), ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "#"),
    ({"properties": {"a": {"type": "string", "pattern": "(?=a)"}}}, "#/properties/a/pattern"),
    ({"type": "string", "pattern": "(a"}, "#/pattern"),
    ({"type": "string", "pattern": "\\bfoo"}, "#/pattern"),
    ({"type": "string", "pattern": "(a)\\1"}, "#/pattern"),
    ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, "#/oneOf"),
    ({"properties": {"a": {"oneOf": [{}, {}]}}}, "#/properties/a/oneOf"),
    ({"type": "number", "multipleOf": 0.01}, "#/multipleOf"),
    ({"type": "integer", "multipleOf": 1000003}, "#/multipleOf"),
    ({"const": 2**53 + 1}, "#/const"), ({"enum": [1e300]}, "#/enum"),
    ({"minimum": 1e18}, "#/minimum"), ({"const": "\x01"}, "#/const"),
    ({"type": "object", "minProperties": 3}, "#/minProperties"),
    ({"properties": {"a": {"$id": "http://x/y"}}}, "#/properties/a/$id"),
    ({"type": "object", "patternProperties": {"^a": {"type": "null"}, "b$": {"type": "integer"}}},
     "#"),
)  # fmt: skip
