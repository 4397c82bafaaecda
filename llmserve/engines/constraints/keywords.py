"""The keywords of JSON Schema: what each must look like, and which are not supported and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
FORMATS: Final = (
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
)  # fmt: skip
"""Those that are enforced. Others are annotations, as the standard has it for all of them."""

MAX_OPTIONS: Final = 1000
"""Of one anyOf, without constants: the grammar compares each with all others at every token."""


def is_count(value: Any) -> bool:
    """A non-negative integer; 3.0 is one."""
    return is_number(value) and value >= 0 and value == int(value)


def is_number(value: Any) -> bool:
    """A finite number; neither true nor false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def is_schema(value: Any) -> bool:
    """Whether it has a schema's shape; what is in it is not looked at."""
    return isinstance(value, bool | dict)


def _is_texts(value: Any) -> bool:
    is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return is_list and len(set(value)) == len(value)


def _is_types(value: Any) -> bool:
    several = value if isinstance(value, list) else [value]
    return bool(several) and _is_texts(several) and all(each in TYPES for each in several)


def _is_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_options(value: Any) -> bool:
    return _is_schemas(value) and sum(map(_is_structure, value)) <= MAX_OPTIONS


def _is_structure(schema: Any) -> bool:
    return not (isinstance(schema, dict) and ("const" in schema or "enum" in schema))


_COUNT: Final = (is_count, "a non-negative integer")
_NUMBER: Final = (is_number, "a number")
_SCHEMA: Final = (is_schema, "a schema (an object, true or false)")
_SCHEMAS: Final = (_is_schemas, "a list of at least one schema")
_OPTIONS: Final = (
    _is_options, f"a list of at least one schema, {MAX_OPTIONS:,} at most without const and enum"
)  # fmt: skip
_MAP: Final = (lambda value: isinstance(value, dict), "an object")
_TEXT: Final = (lambda value: isinstance(value, str), "a text")
_FLAG: Final = (lambda value: isinstance(value, bool), "true or false")

SHAPES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "type": (_is_types, f"one of {', '.join(TYPES)}, or a list of them without repetitions"),
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list of at least one value"),
    "const": (lambda value: True, "any value"),
    "allOf": _SCHEMAS, "anyOf": _OPTIONS, "oneOf": _SCHEMAS,
    "$ref": _TEXT, "pattern": _TEXT, "format": _TEXT, "$id": _TEXT, "$schema": _TEXT,
    "properties": _MAP, "patternProperties": _MAP, "$defs": _MAP, "definitions": _MAP,
    "additionalProperties": _SCHEMA, "not": _SCHEMA, "if": _SCHEMA, "then": _SCHEMA,
    "else": _SCHEMA, "contains": _SCHEMA, "propertyNames": _SCHEMA,
    "unevaluatedProperties": _SCHEMA, "unevaluatedItems": _SCHEMA,
    "required": (_is_texts, "a list of texts without repetitions"),
    "minLength": _COUNT, "maxLength": _COUNT, "minItems": _COUNT, "maxItems": _COUNT,
    "minProperties": _COUNT, "maxProperties": _COUNT, "minContains": _COUNT, "maxContains": _COUNT,
    "minimum": _NUMBER, "maximum": _NUMBER,
    "multipleOf": (lambda value: is_number(value) and value > 0, "a number above 0"),
    "uniqueItems": _FLAG, "prefixItems": _SCHEMAS,
    "dependentSchemas": _MAP, "dependentRequired": _MAP, "dependencies": _MAP,
    "title": _TEXT, "description": _TEXT, "$comment": _TEXT, "deprecated": _FLAG,
    "readOnly": _FLAG, "writeOnly": _FLAG,
    "examples": (lambda value: isinstance(value, list), "a list"),
}  # fmt: skip
"""Keyword → whether a value has its shape, and how that is called."""

UNSUPPORTED: Final = {
    "not": "say what is allowed instead, with enum, type or pattern",
    "if": "list the cases in anyOf, each with all of its properties",
    "contains": "describe all items with items, or the first ones with prefixItems",
    "uniqueItems": "drop it and check the answer, or list what is allowed in anyOf",
    "propertyNames": "use patternProperties with additionalProperties: false",
    "dependentSchemas": "list the cases in anyOf, each with all of its properties",
    "dependentRequired": "list the cases in anyOf, each with its required",
    "dependencies": "list the cases in anyOf, each with all of its properties",
    "unevaluatedProperties": "use additionalProperties where the properties are",
    "unevaluatedItems": "use items where prefixItems is",
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "extends": "use allOf",
    "disallow": "say what is allowed instead, with enum, type or pattern",
    "divisibleBy": "use multipleOf",
}
"""Keyword → what to do instead."""

WITHOUT_EFFECT: Final[dict[str, tuple[Any, ...]]] = {
    "not": (False,),
    "propertyNames": (True, {}),
    "dependentSchemas": ({},),
    "dependentRequired": ({},),
    "dependencies": ({},),
    "unevaluatedProperties": (True, {}),
    "unevaluatedItems": (True, {}),
    "uniqueItems": (False,),
}
"""Keyword → values for which it says nothing."""
