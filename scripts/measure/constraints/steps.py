"""Decode steps with and without a constraint for every row, in turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from llmserve.clock import awake_clock
from llmserve.domain import Caller, Constraint, ConstraintKind, GenerationRequest, SamplingFields
from llmserve.engines.engine import Generator
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.step_report import StepReport
from llmserve.engines.task import Task

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
PROMPT_TOKENS = 16


async def step_seconds(
    engine: Generator, reports: list[StepReport], rows: int, tokens: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each step that samples all rows and reads no prompt, by constraint."""
    found: dict[str, list[float]] = {name: [] for name in CONSTRAINTS}
    for round_number in range(rounds + 1):
        for name, constraint in CONSTRAINTS.items():
            tasks = await prepared(engine, [constraint] * rows, tokens)
            reports.clear()
            await asyncio.gather(*(finished(engine, task) for task in tasks))
            if round_number:  # the first one warms up
                found[name] += [r.seconds for r in reports if r.sampled == rows == r.tokens]
    return found


async def prepared(
    engine: Generator, constraints: Sequence[Constraint | None], tokens: int
) -> Sequence[Task]:
    """A task for each, at temperature 1."""
    sampling = SamplingFields(temperature=1.0, max_tokens=tokens, ignore_eos=True)
    requests = [
        GenerationRequest(
            f"bench-{index}",
            tuple(range(300 + index, 300 + index + PROMPT_TOKENS)),
            sampling=sampling,
            constraint=constraint,
        )
        for index, constraint in enumerate(constraints)
    ]
    deadline = awake_clock() + 600
    return await engine.prepare(requests, Caller("bench"), deadline, lambda: lambda: None)


async def finished(engine: Generator, task: Task) -> Job:
    """The job of a task, once it has ended."""
    done = asyncio.Event()
    job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
    engine.start(job)
    await done.wait()
    return job
