"""One model in both engines, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.engine import Generator
from llmserve.engines.factory import build_engine
from llmserve.engines.options import EngineOptions
from llmserve.engines.weights.footprint import slots
from llmserve.errors import ModelBroken
from measure.speed.limits import Workload
from measure.speed.loop_alone import tokens_per_second

TOKEN_IDS = 1500
"""Prompts are made of tokens below it, which are no special ones."""


@dataclass(frozen=True, slots=True)
class BothEngines:
    """Tokens per second of each round.

    Attributes:
        batching: `None` where the engine does not serve the model.
        why: what the batching engine says of it.
    """

    batching: Sequence[float] | None
    threaded: Sequence[float]
    why: str


async def measure_both(folder: Path, work: Workload, rounds: int) -> BothEngines:
    """Both engines loaded, then a round of each in turn; the first ones warm up."""
    async with AsyncExitStack() as stack:
        threaded = await _loaded(stack, folder, EngineKind.THREADED, None)
        try:
            batching = await _loaded(stack, folder, EngineKind.BATCHING, work.concurrency)
        except ModelBroken as refused:
            alone = [await _round(threaded, work, number) for number in range(rounds + 1)]
            return BothEngines(None, alone[1:], refused.message)
        pairs = [
            (await _round(batching, work, number), await _round(threaded, work, number))
            for number in range(rounds + 1)
        ]
        batched, threads = zip(*pairs[1:], strict=True)
        return BothEngines(batched, threads, batching.info.why)


async def _loaded(
    stack: AsyncExitStack, folder: Path, kind: EngineKind, max_running: int | None
) -> Generator:
    engine = build_engine(
        ModelSpec("bench", path=folder, engine=kind),
        EngineOptions(lambda spec, report: folder, max_running=max_running),
    )
    stack.push_async_callback(engine.close)
    await engine.load(lambda progress: None)
    return engine


async def _round(engine: Generator, work: Workload, seed: int) -> float:
    at_once = slots(engine.info.kind, None) if engine.info.kind is EngineKind.THREADED else None
    return await tokens_per_second(engine, work, TOKEN_IDS, seed, at_once)
