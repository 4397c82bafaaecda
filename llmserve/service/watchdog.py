"""The worker's heartbeat, and an eye on engines that hang. Runs on the event loop, so that a loop
that is stuck shows in the heartbeat's age."""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from loguru import logger

from llmserve.clock import AwakeClock, awake_clock
from llmserve.domain import EngineStats, UpstreamState
from llmserve.engines.engine import Engine
from llmserve.errors import GenerationFailed
from llmserve.fleet.board import Row, State
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.service.service import Service

BEAT_SECONDS: Final = 0.25


class Watchdog:
    """Reports this worker's state to the board, and ticks its clock. `row` is `None` where there is
    no fleet.

    When an engine makes no step for `hang_seconds` although it has work, or a prompt is made into
    tokens for so long (by a chat template that loops, say), the requests that wait for it are
    failed, and the state `HUNG` asks the supervisor for a new worker.
    """

    def __init__(
        self,
        service: Service,
        registry: Registry,
        loader: Loader,
        metrics: Metrics,
        hang_seconds: float,
        row: Row | None,
        clock: AwakeClock = awake_clock,
    ) -> None:
        self._service = service
        self._registry = registry
        self._loader = loader
        self._metrics = metrics
        self._hang_seconds = hang_seconds
        self._row = row
        self._clock = clock
        self._reported: WeakSet[Engine] = WeakSet()
        self._before: WeakKeyDictionary[Engine, EngineStats] = WeakKeyDictionary()

    async def run(self) -> None:
        """Beat until cancelled, then clear the row."""
        try:
            with self._clock.ticking():
                while True:
                    self._clock.tick()
                    self.beat()
                    await asyncio.sleep(BEAT_SECONDS)
        finally:
            # What a worker does after this has another limit: when it must have left.
            if self._row is not None:
                self._row.clear()

    def beat(self) -> None:
        """Look at every engine once and tell the board."""
        models = self._registry.models
        hung = [model for model in models if self._is_hung(model)]
        for model in hung:
            self._fail(model)
        running = sum(self._service.load(model)[0] for model in models)
        for model in models:
            self._measure(model)
            if model.status is ModelStatus.UNLOADING:
                self._service.displace_background(model)
            for adapter in model.adapters.values():
                if adapter.status is ModelStatus.UNLOADING:
                    self._service.displace_background(model, adapter)
        if self._row is not None:
            self._row.beat(self._state(bool(hung)), running)
            number = str(self._row.number)
            self._metrics.worker_up.labels(number).set(1)
            self._metrics.worker_running.labels(number).set(running)
            self._metrics.worker_connections.labels(number).set(self._row.connections)

    def _is_hung(self, model: ServedModel) -> bool:
        age = model.seconds_since_step
        return age is not None and age > self._hang_seconds

    def _fail(self, model: ServedModel) -> None:
        name = model.spec.name
        error = GenerationFailed(
            f"model {name!r} made no token for {self._hang_seconds:.0f} s and is being restarted"
        )
        if failed := self._service.fail_silent(model, self._hang_seconds, error):
            logger.error("the engine of {} hangs: {} requests are failed", name, failed)
        engine = model.engine
        age = engine.stats().seconds_preparing if engine is not None else None
        if engine is None or age is None or age <= self._hang_seconds:
            return
        error = GenerationFailed(
            f"a prompt of model {name!r} was not made into tokens within "
            f"{self._hang_seconds:.0f} s, and its worker is being restarted"
        )
        failed = engine.fail_preparing(error)
        if failed or engine not in self._reported:
            self._reported.add(engine)
            logger.error("chat template or tokenizer of {} hangs: {} requests are failed",
                         name, failed)  # fmt: skip

    def _measure(self, model: ServedModel) -> None:
        name, metrics = model.spec.name, self._metrics
        metrics.model_loaded.labels(name).set(model.status is ModelStatus.READY)
        metrics.model_memory.labels(name).set(model.memory_bytes)
        loaded = sum(adapter.info is not None for adapter in model.adapters.values())
        metrics.adapters_loaded.labels(name).set(loaded)
        # A series that is there can be seen to stay at 0.
        preemptions = metrics.preemptions.labels(name)
        hits = metrics.checkpoint_hits.labels(name)
        if model.engine is None:
            return
        stats = model.engine.stats()
        metrics.kv_cache_usage.labels(name).set(stats.cache_usage)
        metrics.engine_waiting.labels(name).set(stats.waiting)
        metrics.blocks_used.labels(name).set(stats.blocks_used)
        metrics.blocks_total.labels(name).set(stats.blocks_total)
        metrics.states_used.labels(name).set(stats.states_used)
        metrics.states_total.labels(name).set(stats.states_total)
        metrics.checkpoints.labels(name).set(stats.checkpoints)
        for upstream in model.upstreams:
            labels = (name, upstream.url)
            is_up = upstream.state is UpstreamState.UP
            metrics.upstream_up.labels(*labels).set(is_up)
            is_open = upstream.state is UpstreamState.OPEN
            metrics.upstream_open.labels(*labels).set(is_open)
            metrics.upstream_running.labels(*labels).set(upstream.running)
        before = self._before.get(model.engine, EngineStats())
        preemptions.inc(stats.preemptions - before.preemptions)
        hits.inc(stats.checkpoint_hits - before.checkpoint_hits)
        self._before[model.engine] = stats

    def _state(self, is_hung: bool) -> State:
        service = self._service
        if is_hung:
            return State.HUNG
        if service.is_draining or service.is_retiring:
            return State.LEAVING
        if not self._loader.is_settled:
            return State.LOADING
        statuses = {model.status for model in self._registry.models if not model.is_on_demand}
        return State.BROKEN if ModelStatus.BROKEN in statuses else State.READY
