"""Schemas that contain themselves for ever: no finite text fits them."""

from __future__ import annotations

from typing import Any

from llmserve.engines.constraints.schema import Schema


def impossible(schema: Schema) -> str | None:
    """The pointer of the outermost schema that nothing finite fits; `None` if there is none, or the
    document does not need it.

    The least fixed point: a definition can be finite if one of its forms needs only definitions
    that can be. What is referred to comes after what refers to it, mostly: the last go first.
    """
    finite: set[str] = set()
    while True:
        known = len(finite)
        for name, each in reversed(schema.definitions.items()):
            if name not in finite and _is_finite(each, finite):
                finite.add(name)
        if len(finite) == known:
            break
    if _is_finite(schema.root, finite):
        return None
    for pointer, part in reversed(schema.parts):
        if not _is_finite(part, finite):
            return str(pointer)
    return "#"


def _is_finite(schema: Any, finite: set[str]) -> bool:
    if isinstance(schema, bool):
        return True  # what `false` means is told by llguidance
    if "$ref" in schema and schema["$ref"].removeprefix("#/$defs/") not in finite:
        return False
    if not all(_is_finite(each, finite) for each in schema.get("allOf", ())):
        return False
    if "anyOf" in schema and not any(_is_finite(each, finite) for each in schema["anyOf"]):
        return False
    types = schema.get("type", "null")
    types = [types] if isinstance(types, str) else types
    return any(_is_finite_as(name, schema, finite) for name in types)


def _is_finite_as(name: str, schema: dict[str, Any], finite: set[str]) -> bool:
    if name == "object":
        properties = schema.get("properties", {})
        free = schema.get("additionalProperties", True)
        needed = [properties.get(each, free) for each in schema.get("required", ())]
        return all(_is_finite(each, finite) for each in needed)
    if name == "array":
        count = schema.get("minItems", 0)
        first = schema.get("prefixItems", [])[:count]
        rest = [schema.get("items", True)] if count > len(first) else []
        return all(_is_finite(each, finite) for each in (*first, *rest))
    return True
