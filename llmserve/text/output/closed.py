"""Schemas whose objects have the properties that they declare, and no others."""

from __future__ import annotations

from typing import Any, Final

NAMED: Final = frozenset({"properties", "$defs", "definitions"})
"""Keywords with a schema for each name."""
NESTED: Final = frozenset({"items", "prefixItems", "anyOf", "oneOf"})
"""Keywords with a schema, or several."""
SPOKEN: Final = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})
"""Keywords that say what other properties an object may have."""


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without `allOf`, whose parts must stay open for each other; closed at any depth."""
    read = {keyword: _within(keyword, value) for keyword, value in schema.items()}
    declared, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(declared, dict) or SPOKEN & schema.keys():
        return read
    is_possible = isinstance(required, list) and all(name in declared for name in required)
    return {**read, "additionalProperties": False} if is_possible else read


def _within(keyword: str, value: Any) -> Any:
    if keyword in NAMED and isinstance(value, dict):
        return {name: _part(part) for name, part in value.items()}
    if keyword in NESTED:
        return [_part(part) for part in value] if isinstance(value, list) else _part(value)
    return value


def _part(schema: Any) -> Any:
    return closed(schema) if isinstance(schema, dict) else schema
