"""A stream's inter-token latency while others' schemas are compiled."""

from __future__ import annotations

import asyncio
import json
import time

from llmserve.domain import Cancelled, Constraint, ConstraintKind, Delta, Failed, Finish
from llmserve.engines.engine import Generator
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from measure.constraints.steps import prepared

STREAM_TOKENS = 1900


async def itl_beside_compiling(
    engine: Generator, count: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Intervals between tokens as their reader sees them: alone, and while `count` schemas are
    compiled in `seconds`."""
    quiet = await _intervals(engine, seconds / 2)
    compiling = asyncio.create_task(_compile(engine, count, seconds))
    beside = await _intervals(engine, seconds)
    await compiling
    return quiet, beside


async def _compile(engine: Generator, count: int, seconds: float) -> None:
    for number in range(count):
        await asyncio.gather(prepared(engine, [_schema(number)], 8), asyncio.sleep(seconds / count))


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


async def _intervals(engine: Generator, seconds: float) -> list[float]:
    """Streams one after another for so long."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        (task,) = await prepared(engine, [None], STREAM_TOKENS)
        done = asyncio.Event()
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
        engine.start(job)
        last: float | None = None
        while not isinstance(event := await job.mailbox.next(), Finish | Failed | Cancelled):
            now = time.perf_counter()
            if isinstance(event, Delta):
                found += [] if last is None else [now - last]
                last = now
            if now > until:
                job.cancel()
        await done.wait()
    return found
