"""Carries out a command in this worker, telling how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import asdict
from typing import Any, Final

from loguru import logger

from llmserve.domain import ModelSpec
from llmserve.domain.conversation import of_system
from llmserve.errors import ConfigurationError, InvalidRequest, LLMServeError, ServerError
from llmserve.operations.command import Command, Kind
from llmserve.operations.desired import Change, DesiredModels
from llmserve.operations.reply import Reply, failure
from llmserve.operations.status import WorkerStatus
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.service import Service

POLL_SECONDS: Final = 0.2


class WorkerOperations:
    """The commands, over one worker's service. Owned by the event loop.

    `resolve` finds a model that is not served yet by the name that an operator gave.
    """

    def __init__(
        self,
        service: Service,
        registry: Registry,
        loader: Loader,
        status: WorkerStatus,
        resolve: Callable[[str], ModelSpec],
        desired: DesiredModels,
    ) -> None:
        self._service = service
        self._registry = registry
        self._loader = loader
        self._status = status
        self._resolve = resolve
        self._desired = desired

    async def run(self, command: Command) -> AsyncGenerator[Reply]:
        """Every message, up to and including the terminal one. Never raises."""
        begun = time.monotonic()
        try:
            if command.kind is Kind.STATUS:
                yield {"event": "done", "status": self._status.read()}
                return
            model = self._model(command)
            work = asyncio.ensure_future(self._carry_out(command, model))
            try:
                async for message in self._progress(work, model):
                    yield message
                extra = work.result()
            finally:
                work.cancel()
            seconds = round(time.monotonic() - begun, 3)
            yield {"event": "done", "seconds": seconds, "model": model.spec.name} | extra
        except LLMServeError as error:
            yield failure(error)
        # The operations boundary: a bug is this command's answer, and the worker lives on.
        except Exception as error:
            logger.exception("command {} failed", command.kind)
            yield failure(ServerError(f"unexpected {type(error).__name__}; see the log"))

    def _model(self, command: Command) -> ServedModel:
        name = command.model
        if command.kind is Kind.LOAD and name is not None and not self._is_served(name):
            return self._add(name)
        return self._registry.find(name)

    def _is_served(self, name: str) -> bool:
        return any(name in model.names for model in self._registry.models)

    def _add(self, name: str) -> ServedModel:
        return self._registry.add(self._spec(name))

    def _spec(self, name: str) -> ModelSpec:
        try:
            return self._resolve(name)
        except ConfigurationError as error:
            raise InvalidRequest(error.message, param="model") from error

    def _carry_out(self, command: Command, model: ServedModel) -> Coroutine[Any, Any, Reply]:
        match command.kind:
            case Kind.LOAD:
                return self._load(model)
            case Kind.UNLOAD:
                return self._unload(model, command.timeout_seconds)
            case Kind.RELOAD:
                return self._reload(model)
            case Kind.DRAIN | Kind.UNDRAIN:
                return self._drain(model, command)
            case _:
                return self._warm(model, command)

    async def _load(self, model: ServedModel) -> Reply:
        is_new = model.status is ModelStatus.UNLOADED and not model.is_on_demand
        try:
            if model.status is ModelStatus.BROKEN:
                await self._reload(model)  # what broke it may stand in its manifest
            else:
                await self._loader.load(model)
                self._raise_if_broken(model)
        except LLMServeError:
            if is_new:  # it must not stay behind as a broken model that nobody asked for
                self._registry.remove(model)
            raise
        return self._write_down(lambda desired: desired.with_loaded(self._argument(model)))

    async def _unload(self, model: ServedModel, timeout_seconds: float | None) -> Reply:
        await self._loader.unload(model, self._service.cut_short, timeout_seconds)
        return self._write_down(lambda desired: desired.with_unloaded(self._argument(model)))

    async def _reload(self, model: ServedModel) -> Reply:
        spec = self._spec(self._argument(model))
        new = await self._loader.reload(model, spec, self._service.cut_short)
        self._raise_if_broken(new)
        return {}

    async def _warm(self, model: ServedModel, command: Command) -> Reply:
        ready = await self._loader.acquire(model.spec.name, self._service.patience_seconds)
        with self._registry.lease(ready):
            systems = [of_system(text) for text in command.system_prompts]
            report = await ready.loaded_engine.warm(command.prompts, [*command.prefixes, *systems])
        return {"report": asdict(report)}

    async def _drain(self, model: ServedModel, command: Command) -> Reply:
        ready = self._registry.ready(model.spec.name)
        url, is_drained = command.upstream or "", command.kind is Kind.DRAIN
        ready.loaded_engine.drain_upstream(url, is_drained=is_drained)
        name = model.spec.name
        return self._write_down(lambda known: known.with_upstream(name, url, is_drained=is_drained))

    def _write_down(self, change: Change) -> Reply:
        """For workers that are started later; what was done stays done if this fails."""
        try:
            self._desired.change(change)
        except OSError as error:
            logger.error("what was loaded or unloaded is not written down: {}", error)
            return {
                "warning": f"done, but not written down ({error}): until it is, a worker that is "
                "replaced comes back without it"
            }
        return {}

    def _argument(self, model: ServedModel) -> str:
        """The name by which the catalog finds it again."""
        return model.spec.argument or model.spec.name

    def _raise_if_broken(self, model: ServedModel) -> None:
        if model.status is ModelStatus.BROKEN and model.error is not None:
            raise model.error

    async def _progress(
        self, work: asyncio.Future[Reply], model: ServedModel
    ) -> AsyncGenerator[Reply]:
        """What the model says of itself, whenever that changes, until the work is done."""
        last: Reply | None = None
        while not work.done():
            await asyncio.wait({work}, timeout=POLL_SECONDS)
            message = {"event": "progress"} | self._status.model(model)
            if message != last and not work.done():
                yield message
                last = message
