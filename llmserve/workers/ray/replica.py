"""A replica of a model's deployment: the whole application, with this one model and alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import AsyncGenerator
from typing import Any, Final

from fastapi import FastAPI
from loguru import logger
from ray import serve
from starlette.types import Message, Scope

from llmserve.bootstrap import Container
from llmserve.engines.remote.prefix_memory import Digest
from llmserve.observability.logs import configure_logging
from llmserve.operations.command import Command
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.settings import Settings
from llmserve.workers.ray.connection import Connection
from llmserve.workers.ray.deployments import Deployments
from llmserve.workers.ray.operations import RayOperations
from llmserve.workers.worker import SWITCH_SECONDS

EXIT_SECONDS: Final = 15.0
"""From the end of the drain until what still hangs is left behind."""


class Replica:
    """Ray Serve's deployment class. It counts as started once its model has generated its first
    tokens, so that no request goes to a replica which still loads.

    Keywords of its methods are for the router alone (`router.py`).
    """

    async def __init__(self, settings: Settings, deployments: Deployments) -> None:  # type: ignore[misc]  # Ray awaits it
        from llmserve.api.app import create_app  # takes seconds

        self._stack = contextlib.AsyncExitStack()
        self._settings = settings
        self._connections: dict[str, Connection] = {}
        self._name = serve.get_replica_context().replica_tag
        configure_logging(settings.log_format, settings.log_level)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._app: FastAPI = create_app(settings)
        await self._stack.enter_async_context(self._app.router.lifespan_context(self._app))
        self._container: Container = self._app.state.container
        self._app.state.container = dataclasses.replace(
            self._container,
            operations=RayOperations(deployments, serve.get_replica_context().app_name),
        )
        await self._loaded()

    async def answer(
        self,
        connection_id: str,
        scope: Scope,
        body: bytes | None,
        *,
        digest: Digest = (),
    ) -> AsyncGenerator[str | list[Message]]:
        """First this replica's name, then the ASGI messages of the answer."""
        scope["app"] = self._app
        connection = self._connections[connection_id] = Connection(self._app, scope, body)
        try:
            yield self._name
            async with contextlib.aclosing(connection.batches()) as batches:
                async for batch in batches:
                    yield batch
        finally:
            del self._connections[connection_id]

    async def deliver(self, connection_id: str, message: Message, *, replica: str) -> None:
        """A further message of a connection's client. One that has ended meanwhile needs none."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            connection.deliver(message)

    async def command(self, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Carry out an operator's command; this replica's name and its last message."""
        [reply] = await self._container.operations.collect(Command.from_wire(fields))
        return self._name, reply.message

    async def series(self) -> tuple[str, str]:
        """This replica's name and its metrics, in Prometheus's text format."""
        text = await asyncio.to_thread(self._container.metrics.render)
        return self._name, text.decode()

    async def check_health(self) -> None:
        """Ray replaces a replica for which this raises."""
        limit = self._settings.hang_timeout_seconds
        for model in self._container.registry.models:
            silence = model.seconds_since_step
            if silence is not None and silence > limit:
                raise RuntimeError(f"model {model.spec.name!r} has been silent for {silence:.0f} s")
            if model.status is ModelStatus.BROKEN:
                raise RuntimeError(f"model {model.spec.name!r} is broken: {_why(model)}")

    async def __del__(self) -> None:  # Ray awaits it, once no request is open
        """Drain and let go. What hangs is left behind, and Ray kills the process."""
        try:
            async with asyncio.timeout(self._settings.drain_timeout_seconds + EXIT_SECONDS):
                await self._stack.aclose()
        except TimeoutError:
            logger.error("replica {} does not let go of its model; it is left behind", self._name)

    async def _loaded(self) -> None:
        """Wait until every model is ready.

        Raises:
            RuntimeError: one could not be loaded. Ray shows the reason, and tries again.
        """
        models = self._container.registry.models
        for model in models:
            await self._container.loader.load(model)
        for model in models:
            if model.status is ModelStatus.BROKEN:
                raise RuntimeError(f"model {model.spec.name!r} cannot be loaded: {_why(model)}")


def _why(model: ServedModel) -> str:
    return model.error.message if model.error is not None else "the log says why"
