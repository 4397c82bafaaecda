"""Decode steps with and without a constraint for every row, in turn."""

from __future__ import annotations

import asyncio
import json

from llmserve.domain import Constraint, ConstraintKind
from llmserve.engines.engine import Generator
from llmserve.engines.step_report import StepReport
from measure.jobs import finished, prepared

PEOPLE = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "mail": {"type": "string", "format": "email"},
            "role": {"enum": ["reader", "writer", "owner"]},
        },
        "required": ["name", "age", "mail", "role"],
        "additionalProperties": False,
    },
}
CONSTRAINTS = {
    "none": None,
    "JSON schema": Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(PEOPLE)),
    "any JSON": Constraint(
        ConstraintKind.JSON_SCHEMA, '{"type": "array", "minItems": 1000, "items": {"minLength": 9}}'
    ),
    "regular expression": Constraint(ConstraintKind.REGEX, "([a-z]{3,8} ){1000}"),
}


async def step_seconds(
    engine: Generator, reports: list[StepReport], rows: int, tokens: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each step that samples all rows and reads no prompt, by constraint."""
    found: dict[str, list[float]] = {name: [] for name in CONSTRAINTS}
    for round_number in range(rounds + 1):
        for name, constraint in CONSTRAINTS.items():
            tasks = await prepared(
                engine, [{"constraint": constraint}] * rows, tokens, temperature=1.0
            )
            reports.clear()
            await asyncio.gather(*(finished(engine, task) for task in tasks))
            if round_number:  # the first one warms up
                found[name] += [r.seconds for r in reports if r.sampled == rows == r.tokens]
    return found
