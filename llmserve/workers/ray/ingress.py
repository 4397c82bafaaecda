"""The ingress: looks at which model a request is for, and passes it on to a replica of that one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.datastructures import Headers, QueryParams
from starlette.types import Message, Receive, Scope, Send

from llmserve.api.edge.body import BoundedBody
from llmserve.api.edge.request_context import HEADER as REQUEST_ID
from llmserve.api.errors import ClientGone, error_response
from llmserve.engines.remote.prefix_memory import Digest
from llmserve.errors import LLMServeError, WorkerGone
from llmserve.observability.context import request_id
from llmserve.observability.logs import configure_logging
from llmserve.settings import Settings
from llmserve.workers.ray.call import Call
from llmserve.workers.ray.deployments import Deployments
from llmserve.workers.ray.dialect import path_of, shape_of
from llmserve.workers.ray.merged import (
    LISTS,
    READY,
    Whole,
    merged_lists,
    merged_readiness,
    replaced,
    whole,
)
from llmserve.workers.ray.relay import Relay
from llmserve.workers.ray.request_body import content_of, digest_of_body, model_of
from llmserve.workers.ray.series import merged_series

METRICS: Final = "/metrics"
MODELS: Final = ("/v1/models/", "/models/")
PROBE_SECONDS: Final = 5.0
"""How long a question to all deployments may take."""
READS: Final = ("GET", "HEAD")


@serve.ingress()
class Ingress:
    """Ray Serve's ingress class: one for all models, with the routes of every dialect."""

    def __init__(
        self, settings: Settings, deployments: Deployments, *handles: DeploymentHandle[Any]
    ) -> None:
        configure_logging(settings.log_format, settings.log_level)
        by_name = dict(zip(deployments.names, handles, strict=True))
        self._switchboard = Switchboard(settings, deployments, by_name)

    def __serve_build_asgi_app__(self) -> Switchboard:
        """Ray asks for it."""
        return self._switchboard


class Switchboard:
    """The ingress's ASGI application. Owned by the event loop."""

    def __init__(
        self,
        settings: Settings,
        deployments: Deployments,
        handles: Mapping[str, DeploymentHandle[Any]],
    ) -> None:
        self._settings = settings
        self._deployments = deployments
        self._handles = handles
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        request_id.set(Headers(scope=scope).get(REQUEST_ID, ""))
        receive = _until_gone(scope, receive)
        if scope["type"] == "websocket":
            model = QueryParams(scope["query_string"]).get("model")
            await self._relay(scope, None, model, ()).converse(receive, send)
            return
        settings = self._settings
        try:
            body, scope = await _read_body(
                scope, receive, settings.max_body_bytes, settings.body_timeout_seconds
            )
        except ClientGone:
            return
        except LLMServeError as error:
            await error_response(error, shape_of(path_of(scope)))(scope, receive, send)
            return
        path = path_of(scope)
        if scope["method"] in READS and path in LISTS and len(self._handles) > 1:
            await self._answer_together(path, scope, send)
        elif scope["method"] == "GET" and path == METRICS:
            await self._answer_metrics(scope, send)
        else:
            content = content_of(body, settings.max_json_depth)
            model = _model_in(scope) or model_of(content)
            relay = self._relay(scope, body, model, digest_of_body(content))
            await relay.answer(scope, receive, send)

    def _relay(self, scope: Scope, body: bytes | None, model: str | None, digest: Digest) -> Relay:
        # An unknown model is refused by the default deployment, in the words of the dialect.
        found = self._deployments.find(model) or self._deployments.default
        return Relay(
            lambda: Call(self._handles[found], scope, body, digest),
            self._settings.wait_timeout_seconds,
            self._in_background,
        )

    async def _answer_together(self, path: str, scope: Scope, send: Send) -> None:
        plain = _without(scope, b"accept-encoding")
        names = self._deployments.names
        answers = dict(
            zip(names, await asyncio.gather(*(self._ask(n, plain) for n in names)), strict=True)
        )
        served = [answer for answer in answers.values() if isinstance(answer, Whole)]
        if path == READY:
            await _send_whole(merged_readiness(answers), scope, send)
        elif served:
            await _send_whole(merged_lists(path, served), scope, send)
        else:
            error = next(a for a in answers.values() if isinstance(a, LLMServeError))
            await _refuse(error, scope, send)

    async def _answer_metrics(self, scope: Scope, send: Send) -> None:
        """One replica says whether the caller may; then all are asked."""
        own = await self._ask(self._deployments.default, _without(scope, b"accept-encoding"))
        if isinstance(own, LLMServeError):
            await _refuse(own, scope, send)
            return
        if own.status != 200:
            await _send_whole(own, scope, send)
            return
        texts: dict[str, str] = {}
        for series in await asyncio.gather(*map(_series_of, self._handles.values())):
            texts |= series
        merged = await asyncio.to_thread(merged_series, texts)
        await _send_whole(replaced(own, own.status, merged), scope, send)

    async def _ask(self, name: str, scope: Scope) -> Whole | LLMServeError:
        """A deployment's whole answer to a request without a body."""
        call = Call(self._handles[name], dict(scope) | {"method": "GET"}, b"", ())
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await call.start(PROBE_SECONDS)
                return whole([m async for batch in call.batches() for m in batch])
        except LLMServeError as error:
            return error
        except TimeoutError:
            return WorkerGone(f"a replica of {name!r} does not answer")
        finally:
            if not call.has_ended:
                self._in_background(call.hang_up())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PROBE_SECONDS)
        await send({"type": "lifespan.shutdown.complete"})


def _until_gone(scope: Scope, receive: Receive) -> Receive:
    """Ray fails to fetch what a client sends once the client has gone: that is a message, too."""

    async def receive_or_gone() -> Message:
        try:
            return await receive()
        except RayError:
            return {"type": f"{scope['type']}.disconnect"}

    return receive_or_gone


async def _read_body(
    scope: Scope, receive: Receive, max_bytes: int, timeout_seconds: float
) -> tuple[bytes, Scope]:
    """The whole body, decompressed, and the scope of a request with such a body.

    Raises:
        LLMServeError: it is too large, too slow or compressed in a way that nobody reads.
        ClientGone: the client left before it was complete.
    """
    bounded = BoundedBody(Headers(scope=scope), receive, max_bytes, timeout_seconds)
    parts: list[bytes] = []
    while True:
        message = await bounded()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = b"".join(parts)
    if Headers(scope=scope).get("content-encoding") is None:
        return body, scope
    plain = _without(scope, b"content-encoding", b"content-length")
    plain["headers"].append((b"content-length", str(len(body)).encode()))
    return body, plain


async def _series_of(handle: DeploymentHandle[Any]) -> dict[str, str]:
    """The text of each replica of a deployment, by its name; of those that answer."""
    with contextlib.suppress(RayError, RayServeException, TimeoutError):
        answers = await handle.broadcast("series").results_async(
            timeout_s=PROBE_SECONDS, return_exceptions=True
        )
        return dict(answer for answer in answers if isinstance(answer, tuple))
    return {}


def _model_in(scope: Scope) -> str | None:
    """The model that a path or a query names."""
    path = path_of(scope)
    prefix = next((p for p in MODELS if path.startswith(p)), None)
    if prefix is not None:
        return path.removeprefix(prefix)
    return QueryParams(scope["query_string"]).get("model")


def _without(scope: Scope, *names: bytes) -> Scope:
    """The scope of a request without these headers."""
    return dict(scope) | {"headers": [(k, v) for k, v in scope["headers"] if k not in names]}


async def _send_whole(answer: Whole, scope: Scope, send: Send) -> None:
    headers = [(k, v) for k, v in answer.headers if k.lower() != REQUEST_ID.lower().encode()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


async def _refuse(error: LLMServeError, scope: Scope, send: Send) -> None:
    response = error_response(error, shape_of(path_of(scope)))
    await _send_whole(Whole(error.status, response.raw_headers, bytes(response.body)), scope, send)
