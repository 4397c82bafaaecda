"""Whether at most one of several schemas can hold, as `oneOf` asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Final

MAX_OPTIONS: Final = 200
MAX_DEPTH: Final = 6
ALL_TYPES: Final = frozenset(("null", "boolean", "number", "string", "array", "object"))


def are_disjoint(schemas: Sequence[Any], named: Callable[[str], Any]) -> bool:
    """Whether it can be shown, from types, constants, and constants of required properties.

    Schemas are rewritten ones; `named` finds their definitions.
    """
    if len(schemas) > MAX_OPTIONS:
        return False
    return all(_differ(one, other, named, 0) for one, other in combinations(schemas, 2))


def _differ(one: Any, other: Any, named: Callable[[str], Any], depth: int) -> bool:
    if depth > MAX_DEPTH:
        return False
    if one is False or other is False:
        return True
    ones, others = conjuncts(one, named), conjuncts(other, named)
    return any(_differ_plainly(a, b, named, depth) for a in ones for b in others)


def conjuncts(schema: Any, named: Callable[[str], Any]) -> list[dict[str, Any]]:
    """Rewritten schemas that all hold where this one does: itself, what it refers to, its allOf."""
    found: list[dict[str, Any]] = []
    waiting, seen = [schema], set()
    while waiting and len(found) < MAX_OPTIONS:
        each = waiting.pop()
        if not isinstance(each, dict):
            continue
        found.append(each)
        reference = each.get("$ref")
        if reference is not None and reference not in seen:
            seen.add(reference)
            waiting.append(named(reference.removeprefix("#/$defs/")))
        waiting.extend(each.get("allOf", ()))
    return found


def _differ_plainly(
    one: dict[str, Any], other: dict[str, Any], named: Callable[[str], Any], depth: int
) -> bool:
    for a, b in ((one, other), (other, one)):
        options = a.get("anyOf")
        if options and all(_differ(option, b, named, depth + 1) for option in options):
            return True
    if not _types(one) & _types(other):
        return True
    values, others = _values(one), _values(other)
    if values is not None and others is not None and not values & others:
        return True
    if _types(one) != {"object"} or _types(other) != {"object"}:
        return False
    # One that either requires, and that both describe.
    shared = set(one.get("properties", ())) & set(other.get("properties", ()))
    needed = shared & {*one.get("required", ()), *other.get("required", ())}
    return any(
        _differ(one["properties"][name], other["properties"][name], named, depth + 1)
        for name in needed
    )


def _types(schema: dict[str, Any]) -> frozenset[str]:
    named = schema.get("type")
    if named is None:
        values = _listed(schema)
        return ALL_TYPES if values is None else frozenset(map(_type_of, values))
    names = [named] if isinstance(named, str) else named
    return frozenset("number" if name == "integer" else name for name in names)


def _listed(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    listed: list[Any] | None = schema.get("enum")
    return listed


def _values(schema: dict[str, Any]) -> set[str] | None:
    """All values that it allows, `None` if they are not listed. 1 and 1.0 are the same."""
    listed = _listed(schema)
    if listed is None:
        return {"true", "false"} if schema.get("type") == "boolean" else None
    return {json.dumps(_as_number(value), sort_keys=True) for value in listed}


def _as_number(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_number(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_number(each) for each in value]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_integer else value


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
