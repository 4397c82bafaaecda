"""One connection in the hands of a replica, seen from the ingress."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

from loguru import logger
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import Message, Scope

from llmserve.engines.remote.prefix_memory import Digest
from llmserve.errors import NotReady, WorkerGone

RETRY_SECONDS: Final = 5.0
FAREWELL_SECONDS: Final = 60.0
"""How long an answer that nobody reads is waited for."""


class Call:
    """Made, started, read, and told when its client has gone. Owned by the ingress's event loop.

    A task reads the answer, and nobody cancels it: a call that is cancelled just before its replica
    begins may keep its place there for ever, and many of them at once have ended replicas. The
    replica is told instead that the client has gone, as any ASGI server tells its application.
    """

    def __init__(
        self, handle: DeploymentHandle[Any], scope: Scope, body: bytes | None, digest: Digest
    ) -> None:
        self._handle = handle
        self._kind = scope["type"]
        self._id = uuid.uuid4().hex
        self._replica: str | None = None
        self._has_begun = asyncio.Event()
        self._batches: asyncio.Queue[list[Message] | None] = asyncio.Queue()
        self._has_ended = False
        self._error: WorkerGone | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._reader = asyncio.create_task(
            self._read(_wire_scope(scope), body, digest),
            name="answer",
            context=contextvars.Context(),  # Ray cancels what a request calls, with the request
        )

    @property
    def has_ended(self) -> bool:
        """Whether the replica is done with it."""
        return self._has_ended

    async def start(self, seconds: float) -> None:
        """Wait until a replica has taken it.

        Raises:
            NotReady: none did; then the call is taken back.
            WorkerGone: the replica died.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._has_begun.wait()
        if self._replica is not None:
            return
        if self._error is not None:
            raise self._error
        self._reader.cancel()  # no replica has it
        raise NotReady(
            f"no replica of {self._handle.deployment_name!r} took the request within "
            f"{seconds:g} s; try again",
            retry_after_seconds=RETRY_SECONDS,
        )

    async def batches(self) -> AsyncIterator[list[Message]]:
        """The messages of the answer, those of one moment together.

        Raises:
            WorkerGone: the replica died, or failed.
        """
        while (batch := await self._batches.get()) is not None:
            yield batch
        if self._error is not None:
            raise self._error

    async def deliver(self, message: Message) -> None:
        """Give the replica a message of the client; the call must have started."""
        if self.has_ended:
            return
        task = asyncio.create_task(
            self._deliver(message), name="deliver", context=contextvars.Context()
        )
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        await asyncio.shield(task)

    async def hang_up(self) -> None:
        """Tell the replica that the client has gone, and wait until it is done."""
        try:
            await self.start(FAREWELL_SECONDS)
            await self.deliver({"type": f"{self._kind}.disconnect"})
        except (NotReady, WorkerGone) as error:
            logger.info("a client has gone, and so has its answer: {}", error)
        _, pending = await asyncio.wait({self._reader}, timeout=FAREWELL_SECONDS)
        if pending:
            logger.error("the replica goes on {:.0f} s after it was told that its client has gone",
                         FAREWELL_SECONDS)  # fmt: skip
            self._reader.cancel()

    async def _read(self, scope: Scope, body: bytes | None, digest: Digest) -> None:
        method = self._handle.options(method_name="answer", stream=True)
        answer: Any = method.remote(self._id, scope, body, digest=digest)
        try:
            self._replica = await anext(answer)
            self._has_begun.set()
            async for batch in answer:
                self._batches.put_nowait(batch)
        except RayActorError:
            self._error = WorkerGone("the replica stopped before it had answered")
        except (RayError, RayServeException, StopAsyncIteration) as error:
            logger.error("the replica failed: {!r}", error)
            self._error = WorkerGone("the replica failed before it had answered; its log says why")
        except asyncio.CancelledError:
            answer.cancel()
            raise
        finally:
            self._has_ended = True
            self._batches.put_nowait(None)
            self._has_begun.set()

    async def _deliver(self, message: Message) -> None:
        method = self._handle.options(method_name="deliver")
        try:
            await method.remote(self._id, message, replica=self._replica)
        except (RayError, RayServeException) as error:
            logger.debug("a message for {} is lost: {}", self._replica, error)


def _wire_scope(scope: Scope) -> Scope:
    """What of a scope can travel."""
    names = (
        *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string"),
        *("root_path", "headers", "client", "server", "subprotocols"),
    )
    wire = {name: scope[name] for name in names if name in scope}
    shut = "websocket.http.response"
    known = scope.get("extensions") or {}
    extensions: dict[str, Any] = {shut: {}} if shut in known else {}
    return wire | {"headers": [tuple(h) for h in scope["headers"]], "extensions": extensions}
