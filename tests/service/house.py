"""A service over one fake engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from fake_engine import FakeEngine

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    Event,
    GenerationRequest,
    ModelSpec,
    Prompt,
)
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Generation, Limits, Recorder, Service

CALLER = Caller()


@dataclass
class House:
    service: Service
    engine: FakeEngine
    registry: Registry
    metrics: Metrics

    def open(
        self, prompt: Prompt = "hello", **fields: Any
    ) -> contextlib.AbstractAsyncContextManager[Generation]:
        request = GenerationRequest(id="r", prompt=prompt, **fields)
        return self.service.open(request, CALLER)

    @property
    def load(self) -> tuple[int, int]:
        return self.service.load(self.registry.models[0])

    def sample(self, name: str) -> float:
        lines = self.metrics.render().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


@contextlib.asynccontextmanager
async def house(
    capacity: int = 1,
    max_waiting: int = 2,
    wait: float = 60.0,
    timeout_: float = 60.0,
    clock: Callable[[], float] = awake_clock,
) -> AsyncIterator[House]:
    engine = FakeEngine(capacity, clock=clock)
    registry = Registry([ModelSpec("fake", aliases=("nick",))])
    loader = Loader(registry, lambda spec: engine)
    limits = Limits(
        max_waiting=max_waiting, wait_timeout_seconds=wait, request_timeout_seconds=timeout_
    )
    metrics = Metrics()
    recorder = Recorder(metrics, clock=clock)
    service = Service(registry, loader, limits, recorder, clock=clock)
    loader.start()
    await loader.loaded()
    yield House(service, engine, registry, metrics)
    # The pool is whole, whatever the test did.
    engine.finish_all()
    assert service.load(registry.models[0]) == (0, 0)
    assert registry.models[0].open_leases == 0
    await service.drain(1)
    await loader.close()


async def events_of(generation: Generation) -> list[Event]:
    return [event async for event in generation.events()]
