"""Arguments that are written without quotes take their type from the tool's schema."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from llmserve.text.output.json_text import decoded

ALL_TYPES: Final = frozenset({"string", "integer", "number", "boolean", "null", "object", "array"})
_DEPTH: Final = 8


def argument_json(text: str, schema: Any, root: Mapping[str, Any]) -> str:
    """The JSON text of one argument. `root` is the whole schema, for `$ref`.

    Where the schema allows another type than a string, and the text is one, it is that; otherwise
    it is a string, also where the schema does not allow one: nothing that was written is lost. (The
    rule of transformers' `ResponseParser`.)
    """
    types = types_of(schema, root)
    value = _value(text.strip(), types) if types - {"string"} else None
    return json.dumps(text if value is None else value[0], ensure_ascii=False)


def types_of(schema: Any, root: Mapping[str, Any], depth: int = _DEPTH) -> frozenset[str]:
    """The JSON types that a schema names; empty if it names none."""
    if not isinstance(schema, dict) or not depth:
        return frozenset()
    named = schema.get("type")
    types = {named} if isinstance(named, str) else set(named or ())
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not types and isinstance(values, list):
        types = {_type(value) for value in values}
    for part in _parts(schema, root):
        types |= types_of(part, root, depth - 1)
    if schema.get("nullable") is True:
        types.add("null")
    return frozenset(types) & ALL_TYPES


def referred(schema: Any, root: Mapping[str, Any]) -> Any:
    """The schema itself, or the one in `root` that it refers to."""
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    target: Any = root
    for key in reference[2:].split("/"):
        target = target.get(key) if isinstance(target, dict) else None
    return target


def _parts(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Any]:
    for union in ("anyOf", "oneOf", "allOf"):
        parts = schema.get(union)
        yield from parts if isinstance(parts, list) else ()
    if "$ref" in schema:
        yield referred(schema, root)


def _value(text: str, types: frozenset[str]) -> tuple[Any] | None:
    """The text's value if it is one of these types, in a tuple of its own."""
    word = text.lower()
    if "boolean" in types and word in ("true", "false"):
        return (word == "true",)
    if "null" in types and word in ("null", "none"):
        return (None,)
    value = decoded(text)
    if value is None and types & {"object", "array"}:
        value = _literal(text)
    if isinstance(value, float) and value.is_integer() and "integer" in types:
        value = int(value)
    found = _type(value)
    if found in types - {"string"} or (found == "integer" and "number" in types):
        return (value,)
    return None


def _literal(text: str) -> Any:
    """A list or dictionary as Python writes it, or `None`."""
    try:
        value = ast.literal_eval(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return value


def _type(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return "null"
