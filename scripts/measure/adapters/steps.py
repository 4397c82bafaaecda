"""Decode steps whose rows have adapters, or none, in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmserve.engines.engine import Generator
from llmserve.engines.step_report import StepReport
from measure.jobs import finished, prepared

Rows = Sequence[str | None]
"""The adapter of each row of a step."""


@dataclass
class Measured:
    """Of each step, the seconds; of each round, CPU seconds of a step."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)


async def step_seconds(
    engine: Generator,
    reports: list[StepReport],
    kinds: Mapping[str, Rows],
    tokens: int,
    rounds: int,
) -> dict[str, Measured]:
    """Of steps that sample all rows and read no prompt, by kind."""
    found = {name: Measured() for name in kinds}
    for round_number in range(rounds + 1):
        for name, rows in kinds.items():
            tasks = await prepared(
                engine, [{"adapter": adapter} for adapter in rows], tokens, temperature=0.0
            )
            reports.clear()
            begun = time.process_time()
            await asyncio.gather(*(finished(engine, task) for task in tasks))
            spent = time.process_time() - begun
            if round_number:  # the first one warms up
                found[name].seconds += [
                    r.seconds for r in reports if r.sampled == len(rows) == r.tokens
                ]
                found[name].cpu_seconds.append(spent / len(reports))
    return found
