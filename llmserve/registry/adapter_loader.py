"""Loads and unloads adapters: with their base, on demand, for an operator, for lack of room."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from loguru import logger

from llmserve.domain import AdapterSpec
from llmserve.engines.engine import Generator
from llmserve.engines.frames import forget_frames
from llmserve.errors import (
    InvalidRequest,
    LLMServeError,
    ModelBroken,
    ModelLoading,
    ModelUnloaded,
    NotReady,
    OutOfMemory,
)
from llmserve.registry.registry import LOADING_RETRY_SECONDS, Registry
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.registry.served_adapter import ServedAdapter
from llmserve.timer import awake_timeout

CutShort = Callable[[ServedAdapter, LLMServeError], None]
"""Ends every open generation of an adapter with this error."""


class AdapterLoader:
    """One load or unload at a time for each model. Owned by the event loop.

    `fetch` finds an adapter's folder, downloading it if need be; `inspect` says why one cannot be
    served, as far as its folder tells. Both block. `most` adapters of a
    model are loaded at once. Who needs the room of another waits for it `unload_seconds` at most.
    """

    def __init__(
        self,
        registry: Registry,
        fetch: Callable[[AdapterSpec], Path] = lambda spec: spec.path or Path(spec.name),
        *,
        inspect: Callable[[AdapterSpec], str | None] = lambda spec: None,
        most: int = 8,
        unload_seconds: float = 30.0,
    ) -> None:
        self._registry = registry
        self._fetch = fetch
        self._inspect = inspect
        self._most = most
        self._unload_seconds = unload_seconds
        self._loads: dict[ServedAdapter, asyncio.Task[None]] = {}
        self._unloads: set[asyncio.Task[None]] = set()
        self._expected: Counter[ServedAdapter] = Counter()

    async def acquire(
        self, model: ServedModel, adapter: ServedAdapter, timeout_seconds: float
    ) -> None:
        """Return when requests can use it; loads it if requests may, within the time given. The
        model must be ready, and held; the adapter is to be held at once.

        Raises:
            NotReady: it is loading, broken, unloaded by an operator, or finds no room.
        """
        if adapter.is_on_demand and adapter.status not in (ModelStatus.READY, ModelStatus.BROKEN):
            self._expected[adapter] += 1
            try:
                with contextlib.suppress(TimeoutError):
                    async with awake_timeout(timeout_seconds, self._registry.clock):
                        await self.load(model, adapter)
            finally:
                self._expected[adapter] -= 1
                if not self._expected[adapter]:
                    del self._expected[adapter]
        match adapter.status:
            case ModelStatus.READY:
                return
            case ModelStatus.BROKEN:
                assert adapter.error is not None
                raise ModelBroken(f"{adapter.name!r}: {adapter.error.message}")
            case ModelStatus.LOADING:
                raise ModelLoading(
                    f"{adapter.name!r} is still loading; try again",
                    retry_after_seconds=LOADING_RETRY_SECONDS,
                )
            case status:
                raise ModelUnloaded(
                    f"{adapter.name!r} is {status.value}; ask the operator to load it",
                    retry_after_seconds=LOADING_RETRY_SECONDS,
                )

    async def load(self, model: ServedModel, adapter: ServedAdapter) -> None:
        """Load it, or wait for the load that is under way; returns when it is ready or broken.

        Raises:
            NotReady: the model is not loaded, or the adapters that are loaded are pinned or in use.
            OutOfMemory: the device has no room for it.
        """
        if adapter.status is ModelStatus.READY:
            return
        task = self._loads.get(adapter)
        if task is None:
            loading = self._load(model, adapter)
            task = asyncio.create_task(loading, name=f"load-{adapter.name}")
            self._loads[adapter] = task
            task.add_done_callback(lambda done: self._load_is_over(adapter, done))
        await asyncio.shield(task)

    async def begin(self, model: ServedModel) -> None:
        """Load those that are to be loaded with their base, and look at the others; what goes wrong
        is told, and no more than their own error."""
        for adapter in list(model.adapters.values()):
            if not adapter.is_on_demand:
                continue
            if not adapter.is_initial:
                await self._look_at(adapter)
                continue
            try:
                await self.load(model, adapter)
            except LLMServeError as error:
                logger.error("{}: {}", adapter.name, error.message)

    async def unload(
        self,
        model: ServedModel,
        adapter: ServedAdapter,
        cut_short: CutShort,
        timeout_seconds: float | None = None,
    ) -> None:
        """Take no new requests, let open streams finish until the deadline, let go. It stays so
        until an operator loads it again. What was begun goes on if its caller leaves."""
        adapter.is_on_demand = False
        unloading = self._unload(model, adapter, cut_short, timeout_seconds)
        task = asyncio.create_task(unloading, name=f"unload-{adapter.name}")
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)
        await asyncio.shield(task)

    async def close(self) -> None:
        """Stop loading and unloading."""
        tasks = [*self._loads.values(), *self._unloads]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _unload(
        self,
        model: ServedModel,
        adapter: ServedAdapter,
        cut_short: CutShort,
        timeout_seconds: float | None,
    ) -> None:
        async with model.adapters_turn:
            if adapter.status is ModelStatus.BROKEN:
                adapter.status, adapter.error = ModelStatus.UNLOADED, None
            if adapter.status is not ModelStatus.READY:
                return
            adapter.status = ModelStatus.UNLOADING
            seconds = self._unload_seconds if timeout_seconds is None else timeout_seconds
            try:
                async with awake_timeout(seconds, self._registry.clock):
                    await adapter.has_no_leases.wait()
            except TimeoutError:
                logger.warning("unloading {}: {} open streams are cut short",
                               adapter.name, adapter.open_leases)  # fmt: skip
                cut_short(adapter, ModelUnloaded(f"{adapter.name!r} was unloaded"))
            await self._drop(model, adapter)

    def _load_is_over(self, adapter: ServedAdapter, task: asyncio.Task[None]) -> None:
        del self._loads[adapter]
        if not task.cancelled():
            task.exception()  # retrieved here, as there may be no waiter left

    async def _look_at(self, adapter: ServedAdapter) -> None:
        problem = await asyncio.to_thread(self._inspect, adapter.spec)
        if problem is not None and adapter.status is ModelStatus.UNLOADED:
            error = InvalidRequest(f"adapter {adapter.spec.name!r} cannot be served: {problem}")
            logger.warning("{}: {}", adapter.name, error.message)
            adapter.status, adapter.error = ModelStatus.BROKEN, error

    async def _load(self, model: ServedModel, adapter: ServedAdapter) -> None:
        """The boundary: whatever goes wrong is this adapter's error, and the base serves on."""
        if adapter.info is None:  # otherwise it is about to be evicted, but still there
            adapter.status, adapter.error = ModelStatus.LOADING, None
        try:
            folder = await asyncio.to_thread(self._fetch, adapter.spec)
            async with model.adapters_turn:
                if adapter.status is ModelStatus.READY:
                    return
                engine = _generator(model)
                if not adapter.is_on_demand:
                    raise ModelUnloaded(f"{adapter.name!r} was unloaded meanwhile")
                adapter.status = ModelStatus.LOADING
                await self._make_room(model)
                info = await engine.load_adapter(adapter.spec, folder)
                if model.engine is not engine:
                    raise _unloaded(model)
                adapter.info, adapter.status = info, ModelStatus.READY
        except LLMServeError as error:
            forget_frames(error)
            is_passing = isinstance(error, NotReady | OutOfMemory)
            if is_passing and not isinstance(error, ModelBroken):
                adapter.status = ModelStatus.UNLOADED
                raise
            logger.error("{}: {}", adapter.name, error.message)
            adapter.status, adapter.error = ModelStatus.BROKEN, error
        except Exception as error:
            logger.exception("loading {} failed", adapter.name)
            forget_frames(error)
            message = f"loading failed: {type(error).__name__}; see the log"
            adapter.status, adapter.error = ModelStatus.BROKEN, ModelBroken(message)
        except asyncio.CancelledError:
            adapter.status = ModelStatus.UNLOADED
            raise
        else:
            adapter.used_at = self._registry.clock()
            adapter.has_no_leases.set()

    async def _make_room(self, model: ServedModel) -> None:
        """Evict, least recently used first, until one more may be loaded.

        Raises:
            NotReady: all are pinned or in use.
        """
        while len(loaded := _loaded(model)) >= self._most:
            victims = [one for one in loaded if not one.is_pinned]
            if not victims or (victim := await self._freed(victims)) is None:
                raise NotReady(
                    f"model {model.spec.name!r} has {len(loaded)} adapters loaded, the most it "
                    "may have (max_adapters), and all are pinned or in use; try again later",
                    retry_after_seconds=LOADING_RETRY_SECONDS,
                )
            logger.info("{} is evicted to make room", victim.name)
            await self._drop(model, victim)

    async def _freed(self, victims: list[ServedAdapter]) -> ServedAdapter | None:
        """The first that nobody uses; `None` if there is none in time. The least recently used one
        takes no new requests meanwhile, so that there is one in the end."""
        closed: ServedAdapter | None = None
        try:
            async with awake_timeout(self._unload_seconds, self._registry.clock):
                while not (idle := [one for one in victims if self._is_idle(one)]):
                    if closed is None or closed.status is not ModelStatus.UNLOADING:
                        closed = _least_recent(one for one in victims if one.open_leases)
                        if closed is not None:
                            closed.status = ModelStatus.UNLOADING
                    await _first_unused(victims)
        except TimeoutError:
            return None
        finally:
            if closed is not None and closed.status is ModelStatus.UNLOADING:
                closed.status = ModelStatus.READY
        return _least_recent(idle)

    def _is_idle(self, adapter: ServedAdapter) -> bool:
        """Who waited for it to be loaded is about to use it; who waits for one that is closed
        needs it to be loaded anew."""
        is_expected = adapter.status is ModelStatus.READY and adapter in self._expected
        return not adapter.open_leases and not is_expected

    async def _drop(self, model: ServedModel, adapter: ServedAdapter) -> None:
        adapter.status = ModelStatus.UNLOADING  # before anything else can run and take a lease
        if isinstance(model.engine, Generator):
            await model.engine.unload_adapter(adapter.spec.name)
        adapter.forget()
        logger.info("{} is unloaded", adapter.name)


def _least_recent(adapters: Iterable[ServedAdapter]) -> ServedAdapter | None:
    return min(adapters, key=lambda one: one.used_at, default=None)


async def _first_unused(adapters: Sequence[ServedAdapter]) -> None:
    waits = [asyncio.ensure_future(one.has_no_leases.wait()) for one in adapters]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _loaded(model: ServedModel) -> list[ServedAdapter]:
    return [one for one in model.adapters.values() if one.info is not None]


def _generator(model: ServedModel) -> Generator:
    # One that is being replaced still serves those who hold it.
    if model.engine is None or model.status not in (ModelStatus.READY, ModelStatus.UNLOADING):
        raise _unloaded(model)
    return model.generator


def _unloaded(model: ServedModel) -> ModelUnloaded:
    return ModelUnloaded(
        f"model {model.spec.name!r} is {model.status.value}; try again later",
        retry_after_seconds=LOADING_RETRY_SECONDS,
    )
