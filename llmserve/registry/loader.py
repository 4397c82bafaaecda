"""Loads and unloads models: at start, on demand, for an operator, for lack of room."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from loguru import logger

from llmserve.domain import LoadProgress, ModelSpec
from llmserve.engines.engine import Engine
from llmserve.engines.frames import forget_frames
from llmserve.errors import LLMServeError, ModelBroken, ModelUnloaded, NotReady
from llmserve.observability.stages import Stages
from llmserve.registry.frozen_heap import freeze_heap, thawed_heap
from llmserve.registry.ready_log import log_ready
from llmserve.registry.registry import LOADING_RETRY_SECONDS, Registry
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.timer import awake_timeout

SWEEP_SECONDS: Final = 1.0
MAX_SWEEP_SECONDS: Final = 30.0
REMOTE_RETRY_SECONDS: Final = 5.0
"""After which a model is asked for again that no other server served."""

CutShort = Callable[[ServedModel, LLMServeError], None]
"""Ends every open generation of a model with this error."""


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """What decides which models stay loaded.

    Attributes:
        memory_bytes: for all loaded models together, `None` for no bound.
        idle_seconds: a model unused for so long is unloaded, `None` for never.
        unload_seconds: how long unloading waits for open leases.
    """

    memory_bytes: int | None = None
    idle_seconds: float | None = None
    unload_seconds: float = 30.0


class Loader:
    """One load or unload at a time. Owned by the event loop.

    `estimate` tells how much memory a model will want, before it is loaded.
    """

    def __init__(
        self,
        registry: Registry,
        build_engine: Callable[[ModelSpec], Engine],
        *,
        policy: LoadPolicy | None = None,
        estimate: Callable[[ModelSpec], int] = lambda spec: 0,
    ) -> None:
        self._registry = registry
        self._build_engine = build_engine
        self._policy = policy or LoadPolicy()
        self._estimate = estimate
        self._turn = asyncio.Lock()
        self._loads: dict[ServedModel, asyncio.Task[None]] = {}
        self._retired: dict[ServedModel, asyncio.Task[None]] = {}
        self._initial: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._again: set[asyncio.Task[None]] = set()
        self._new_wish = asyncio.Event()

    def start(self) -> None:
        """Load every model that is not on demand in the background, one after another."""
        wanted = [
            model
            for model in self._registry.models
            if not model.is_on_demand and model.status is ModelStatus.UNLOADED
        ]
        for model in wanted:
            model.status = ModelStatus.LOADING
        self._initial = asyncio.create_task(self._load_all(wanted), name="load-models")
        if self._policy.idle_seconds is not None:
            self._begin_sweeping()

    def keep(self, model: ServedModel, seconds: float) -> None:
        """A model on demand is unloaded when it was not used for so long, in place of what the
        policy says; infinity is never. The wish ends with the model's next unloading."""
        model.keep_seconds = seconds
        self._begin_sweeping()
        self._new_wish.set()

    def seconds_kept(self, model: ServedModel) -> float | None:
        """How long it stays loaded without being used, `None` for as long as there is room."""
        if model.is_pinned:
            return None
        seconds = self._policy.idle_seconds if model.keep_seconds is None else model.keep_seconds
        return None if seconds == math.inf else seconds

    async def loaded(self) -> None:
        """Wait until every model that was to be loaded at start is ready or broken."""
        if self._initial is not None:
            await asyncio.shield(self._initial)

    @property
    def is_settled(self) -> bool:
        """Whether every model that was to be loaded at start is ready or broken."""
        return self._initial is not None and self._initial.done()

    async def acquire(self, name: str | None, timeout_seconds: float) -> ServedModel:
        """A model that can generate; loads one that is on demand, within the time given.

        Raises:
            ModelNotFound: unknown name.
            NotReady: it is loading, broken, unloaded by an operator, or finds no room.
        """
        model = self._registry.find(name)
        if not model.is_on_demand or model.status in (ModelStatus.READY, ModelStatus.BROKEN):
            return self._registry.ready(name)
        with contextlib.suppress(TimeoutError):
            async with awake_timeout(timeout_seconds, self._registry.clock):
                await self.load(model)
        return self._registry.ready(name)

    async def load(self, model: ServedModel) -> None:
        """Load it, or wait for the load that is under way; returns when it is ready or broken.

        Raises:
            NotReady: the memory budget has no room and nothing can make any.
        """
        if model.status is ModelStatus.READY:
            return
        task = self._loads.get(model)
        if task is None:
            task = asyncio.create_task(self._load_in_turn(model), name=f"load-{model.spec.name}")
            self._loads[model] = task
            task.add_done_callback(lambda done: self._load_is_over(model, done))
        await asyncio.shield(task)

    async def unload(
        self, model: ServedModel, cut_short: CutShort, timeout_seconds: float | None = None
    ) -> None:
        """Take no new requests, let open streams finish until the deadline, let go.

        A model that its operator unloads stays so until it is loaded again, even where it was
        on demand.
        """
        async with self._turn:
            model.is_on_demand = False
            if model.status is ModelStatus.READY:
                await self._let_go(model, cut_short, timeout_seconds)
            elif model.status is ModelStatus.BROKEN:
                model.status, model.error = ModelStatus.UNLOADED, None

    async def reload(self, model: ServedModel, spec: ModelSpec, cut_short: CutShort) -> ServedModel:
        """A new incarnation from this spec; the old one finishes its streams meanwhile.

        Where there is no room for both, in the memory budget or on a GPU, which a model fills, the
        old one goes first. If the new one turns out broken, the old one stays, where it is still
        there.

        Raises:
            ModelBroken: a name of the new one belongs to another model; nothing has changed.
        """
        self._registry.check(spec)
        new = ServedModel(spec, is_on_demand=model.is_on_demand, is_pinned=model.is_pinned)
        if model.status is not ModelStatus.READY or not self._has_room_beside(model, new):
            await self.unload(model, cut_short)
            self._registry.replace(model, new)
            new.is_on_demand = model.is_on_demand
            await self.load(new)
            return new
        async with self._turn:
            await self._load(new)
        if new.error is not None:
            return new
        try:
            self._registry.replace(model, new)
        except LLMServeError:  # somebody took the name meanwhile
            await self._drop(new)
            raise
        task = asyncio.create_task(self._let_go(model, cut_short, None), name="old-incarnation")
        self._retired[model] = task
        task.add_done_callback(lambda _: self._retired.pop(model))
        return new

    async def close(self) -> None:
        """Stop loading, then close the engines, last built first."""
        models = [*self._registry.models, *self._retired]
        tasks = [self._initial, self._sweeper, *self._loads.values(), *self._retired.values()]
        tasks += self._again
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        for model in reversed(models):
            model.status = ModelStatus.UNLOADED
            await _close(model)

    async def _load_all(self, models: list[ServedModel]) -> None:
        """One after another; those that other servers serve wait for nobody."""
        here = [model for model in models if model.spec.remote is None]
        elsewhere = [model for model in models if model.spec.remote is not None]
        await asyncio.gather(self._load_each(here), *(self._load_each([m]) for m in elsewhere))
        freeze_heap()

    async def _load_each(self, models: list[ServedModel]) -> None:
        for model in models:
            try:
                await self.load(model)
            except LLMServeError as error:
                model.error, model.status = error, ModelStatus.BROKEN
                logger.error("{}", error.message)

    def _load_is_over(self, model: ServedModel, task: asyncio.Task[None]) -> None:
        del self._loads[model]
        if not task.cancelled():
            task.exception()  # retrieved here, as there may be no waiter left

    async def _load_in_turn(self, model: ServedModel) -> None:
        if model.spec.remote is not None:  # it needs no room
            await self._load(model)
            return
        async with self._turn:
            if model.status is ModelStatus.READY:
                return
            model.status = ModelStatus.LOADING
            try:
                await self._make_room(model)
            except LLMServeError:
                model.status = ModelStatus.UNLOADED
                raise
            await self._load(model)

    async def _load(self, model: ServedModel) -> None:
        """The loader's boundary: whatever goes wrong is this model's error and no other's."""

        stages, before = Stages(), model.error

        def report(progress: LoadProgress) -> None:
            model.progress = progress
            stages.enter(progress.stage)

        model.status, model.error = ModelStatus.LOADING, None
        try:
            model.engine = self._build_engine(model.spec)
            await model.engine.load(report)
            model.engine = model.engine.serving
        except LLMServeError as error:
            is_known = before is not None and before.message == error.message
            logger.log("DEBUG" if is_known else "ERROR", "{}", error.message)
            forget_frames(error)  # they hold what was loaded, and the error is kept
            await self._give_up(model, error)
        except Exception as error:
            logger.exception("loading {} failed", model.spec.name)
            forget_frames(error)
            message = f"loading failed: {type(error).__name__}; see the log"
            await self._give_up(model, ModelBroken(message))
        else:
            model.status = ModelStatus.READY
            model.used_at = self._registry.clock()
            model.has_no_leases.set()
            log_ready(model, model.engine, stages)

    async def _give_up(self, model: ServedModel, error: LLMServeError) -> None:
        model.error, model.status = error, ModelStatus.BROKEN
        await _close(model)
        if model.spec.remote is not None:
            task = asyncio.create_task(self._load_again(model), name=f"again-{model.spec.name}")
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    async def _load_again(self, model: ServedModel) -> None:
        """Other servers come and go: what none of them served may be there by now."""
        await asyncio.sleep(REMOTE_RETRY_SECONDS)
        if model.status is ModelStatus.BROKEN and model in self._registry.models:
            await self.load(model)

    async def _let_go(
        self, model: ServedModel, cut_short: CutShort, timeout_seconds: float | None
    ) -> None:
        seconds = self._policy.unload_seconds if timeout_seconds is None else timeout_seconds
        model.status = ModelStatus.UNLOADING
        try:
            async with awake_timeout(seconds, self._registry.clock):
                await model.has_no_leases.wait()
        except TimeoutError:
            logger.warning("unloading {}: {} open streams are cut short",
                           model.spec.name, model.open_leases)  # fmt: skip
            cut_short(model, ModelUnloaded(f"model {model.spec.name!r} was unloaded"))
        await self._drop(model)

    async def _drop(self, model: ServedModel) -> None:
        assert model.engine is not None
        model.status = ModelStatus.UNLOADING  # before anything else can run and take a lease
        with thawed_heap():
            await _close(model)
        model.status = ModelStatus.UNLOADED
        model.progress = LoadProgress("waiting")
        model.keep_seconds = None
        logger.info("model {} is unloaded", model.spec.name)

    def _has_room_beside(self, old: ServedModel, new: ServedModel) -> bool:
        takes_no_device = old.loaded_engine.info.device in ("cpu", "remote")
        return takes_no_device and self._has_room(new)

    def _has_room(self, model: ServedModel) -> bool:
        budget = self._policy.memory_bytes
        if budget is None:
            return True
        used = sum(other.memory_bytes for other in self._registry.models if other is not model)
        return used + self._estimate(model.spec) <= budget

    async def _make_room(self, model: ServedModel) -> None:
        """Evict, least recently used first, until the model fits the budget."""
        needed = self._estimate(model.spec)
        budget = self._policy.memory_bytes
        if budget is not None and needed > budget:
            raise ModelBroken(
                f"model {model.spec.name!r} needs about {needed:,} bytes and models_memory_bytes "
                f"is {budget:,}; raise it"
            )
        while not self._has_room(model):
            victim = self._victim()
            if victim is None or not await self._evict(victim):
                raise NotReady(
                    f"no room for model {model.spec.name!r}: the loaded models are pinned or in "
                    "use; try again later",
                    retry_after_seconds=LOADING_RETRY_SECONDS,
                )

    def _victim(self) -> ServedModel | None:
        loaded = [
            model
            for model in self._registry.models
            if model.status is ModelStatus.READY and not model.is_pinned
        ]
        return min(loaded, key=lambda m: (m.open_leases > 0, m.used_at), default=None)

    async def _evict(self, victim: ServedModel) -> bool:
        """Unload it without cutting a stream; whether that worked out in time."""
        victim.status = ModelStatus.UNLOADING
        try:
            async with awake_timeout(self._policy.unload_seconds, self._registry.clock):
                await victim.has_no_leases.wait()
        except TimeoutError:
            victim.status = ModelStatus.READY
            return False
        logger.info("model {} is evicted to make room", victim.spec.name)
        await self._drop(victim)
        victim.is_on_demand = True  # no operator unloaded it: the next request loads it again
        return True

    def _begin_sweeping(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="idle-models")

    async def _sweep(self) -> None:
        while True:
            kept = (self.seconds_kept(model) for model in self._registry.models)
            shortest = min((seconds for seconds in kept if seconds is not None), default=math.inf)
            interval = min(max(shortest / 4, SWEEP_SECONDS), MAX_SWEEP_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._new_wish.wait()
            self._new_wish.clear()
            await self.unload_idle()

    async def unload_idle(self) -> None:
        """Unload every model that has not been used for as long as it is kept."""
        for model in self._registry.models:
            if not self._is_idle(model):
                continue
            async with self._turn:
                if self._is_idle(model):
                    logger.info("model {} is idle", model.spec.name)
                    await self._drop(model)
                    model.is_on_demand = True

    def _is_idle(self, model: ServedModel) -> bool:
        seconds = self.seconds_kept(model)
        if model.status is not ModelStatus.READY or seconds is None or model.open_leases:
            return False
        return self._registry.clock() - model.used_at >= seconds


async def _close(model: ServedModel) -> None:
    """Let go of what was loaded."""
    engine, model.engine = model.engine, None
    if engine is not None:
        await engine.close()
