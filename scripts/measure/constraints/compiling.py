"""A stream's inter-token latency while others' schemas are compiled."""

from __future__ import annotations

import asyncio
import json

from llmserve.domain import Constraint, ConstraintKind
from llmserve.engines.engine import Generator
from measure.jobs import intervals, prepared


async def itl_beside_compiling(
    engine: Generator, count: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Intervals between tokens as their reader sees them: alone, and while `count` schemas are
    compiled in `seconds`."""
    quiet = await intervals(engine, seconds / 2, temperature=1.0)
    compiling = asyncio.create_task(_compile(engine, count, seconds))
    beside = await intervals(engine, seconds, temperature=1.0)
    await compiling
    return quiet, beside


async def _compile(engine: Generator, count: int, seconds: float) -> None:
    for number in range(count):
        preparing = prepared(engine, [{"constraint": _schema(number)}], 8, temperature=1.0)
        await asyncio.gather(preparing, asyncio.sleep(seconds / count))


def _schema(number: int) -> Constraint:
    """One of many: thirty properties, some nested, with names of its own."""
    leaf = {"type": "string", "maxLength": 50, "pattern": "^[A-Z][a-z ]+$"}
    properties = {
        f"field_{number}_{index}": leaf
        if index % 3
        else {"type": "array", "items": {"anyOf": [{"type": "integer"}, leaf]}}
        for index in range(30)
    }
    document = {"type": "object", "properties": properties, "required": [*properties][:10]}
    return Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(document))
