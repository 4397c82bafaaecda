"""An upstream that speaks OpenAI's API over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx
import orjson

from llmserve.domain import GenerationRequest, RemoteSpec, SamplingFields, Usage
from llmserve.engines.remote.answer_reader import AnswerReader
from llmserve.engines.remote.key import UpstreamKey
from llmserve.engines.remote.learned_tokens import LearnedTokens
from llmserve.engines.remote.refusal import refusal_of
from llmserve.engines.remote.request_body import RequestBody, RequestWriter
from llmserve.engines.remote.server_kind import TAKES, ServerKind, kind_of
from llmserve.engines.remote.sse import SSEReader, TooLarge
from llmserve.engines.remote.transport import (
    Accepted,
    Counted,
    Lost,
    Piece,
    Refused,
    Served,
    Transport,
    Unreachable,
    Unwell,
)
from llmserve.errors import UpstreamFailed

PROBE_SECONDS: Final = 5.0
MOST_BYTES: Final = 2**20
"""Of a response that is no stream."""
UNREACHED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
ANY_MODEL: Final = frozenset({ServerKind.LLAMA_CPP})
"""Kinds of servers that have one model, whatever requests call it."""
LISTENS_TO_NOTHING: Final = "its list of models cannot be read"


@dataclass(slots=True)
class HTTPTransport(Transport):
    """Shares its client, and with it the pool of connections, with the model's other upstreams.

    Attributes:
        url: base URL, without `/v1`.
        operators: sampling of the manifest.
        tokens: what tokens of log probabilities are called.
    """

    url: str
    spec: RemoteSpec
    client: httpx.AsyncClient
    key: UpstreamKey
    operators: SamplingFields
    tokens: LearnedTokens
    _served: Served = field(default_factory=lambda: Served(ServerKind.UNKNOWN, has_model=False))

    @property
    def language(self) -> Hashable:
        return self._served.kind, self._keeps_any_budget

    @property
    def writer(self) -> RequestWriter:
        """For what the upstream is known to be."""
        kind = self._served.kind
        return RequestWriter(
            kind, TAKES[kind], self.spec.model, self.operators, self._keeps_any_budget
        )

    def write(self, request: GenerationRequest) -> RequestBody:
        return self.writer.write(request)

    async def describe(self) -> Served:
        response = await self._get("/v1/models")
        if response.status_code == HTTPStatus.NOT_FOUND:  # a service that lists none
            self._served = Served(ServerKind.UNKNOWN, has_model=True)
            return self._served
        self._raise_if_unwell(response)
        try:
            models = list(orjson.loads(response.content)["data"])
            self._served = self._found(models)
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
            raise Unwell(LISTENS_TO_NOTHING) from None
        return self._served

    async def check(self) -> None:
        path = self.spec.health_path or TAKES[self._served.kind].health_path
        response = await self._get(path)
        if path == "/health/ready" and self._served.kind is ServerKind.LLMSERVE:
            self._raise_if_not_ready(response)
        else:
            self._raise_if_unwell(response)

    async def answer(
        self, written: RequestBody, headers: Mapping[str, str]
    ) -> AsyncGenerator[Piece]:
        async with self._sent(written, headers) as response:
            if response.status_code != HTTPStatus.OK:
                content = await _some(response)
                raise Refused(
                    refusal_of(response.status_code, response.headers, content, self.key.value)
                )
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise UpstreamFailed("the server of this model does not stream its answers")
            yield Accepted()
            reader = AnswerReader(self.tokens)
            async with contextlib.aclosing(self._events(response)) as events:
                async for data in events:
                    delta = reader.read(data)
                    if delta is not None:
                        yield delta
                    if reader.is_over:
                        break
            if not reader.has_ended:
                raise Lost("the stream ended before the answer did")
            if reader.usage is not None:
                yield Counted(reader.usage)
            yield reader.finish(reader.usage or Usage())

    async def close(self) -> None:
        """Nothing: the client is the engine's."""

    @property
    def _keeps_any_budget(self) -> bool:
        return self._served.facts.get("reasoning") is False

    @contextlib.asynccontextmanager
    async def _sent(
        self, written: RequestBody, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        request = self.client.build_request(
            "POST",
            self.url + written.path,
            content=written.content,
            headers={**headers, **self._own_headers(), "Content-Type": "application/json",
                     "Accept": "text/event-stream"},
        )  # fmt: skip
        try:
            response = await self.client.send(request, stream=True)
        except UNREACHED as error:
            raise Unreachable(_why(error)) from error
        except httpx.HTTPError as error:
            raise Lost(_why(error)) from error
        try:
            yield response
        finally:
            await response.aclose()

    async def _events(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        events = SSEReader()
        try:
            async for chunk in response.aiter_raw():
                for data in events.feed(chunk):
                    yield data
        except httpx.HTTPError as error:
            raise Lost(_why(error)) from error
        except TooLarge:
            raise UpstreamFailed("the server of this model sent an event without an end") from None

    async def _get(self, path: str) -> httpx.Response:
        """A whole response, if it is not too large."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                request = self.client.build_request(
                    "GET", self.url + path, headers=self._own_headers()
                )
                response = await self.client.send(request, stream=True)
                try:
                    content = await _some(response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unwell(_why(error)) from error
        return httpx.Response(response.status_code, content=content)

    def _own_headers(self) -> dict[str, str]:
        return {} if self.key.value is None else {"Authorization": f"Bearer {self.key.value}"}

    def _found(self, models: list[dict[str, Any]]) -> Served:
        """The model among those that are listed."""
        kind = kind_of(models[0].get("owned_by")) if models else ServerKind.UNKNOWN
        for model in models:
            if self.spec.model in (model.get("id"), *(model.get("aliases") or ())):
                is_there = model.get("status", "ready") in ("ready", "unloaded")
                return Served(kind_of(model.get("owned_by")), has_model=is_there, facts=model)
        if kind in ANY_MODEL:
            return Served(kind, has_model=True, facts=models[0])
        return Served(kind, has_model=False)

    def _raise_if_unwell(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        refusal = refusal_of(response.status_code, {}, response.content, self.key.value)
        raise Unwell(f"it answers {response.status_code}: {refusal.error.message}")

    def _raise_if_not_ready(self, response: httpx.Response) -> None:
        """What this server's own readiness says: of the model, where others may still load."""
        try:
            body = orjson.loads(response.content)
            if body["status"] == "draining":
                raise Unwell("it is shutting down", is_draining=True)
            states = {model["name"]: model["status"] for model in body["models"]}
        except (orjson.JSONDecodeError, LookupError, TypeError):
            self._raise_if_unwell(response)
            return
        state = states.get(self._served.facts.get("id", self.spec.model))
        if state not in (None, "ready", "unloaded"):
            raise Unwell(f"the model is {state} there")


async def _some(response: httpx.Response) -> bytes:
    """The content, or how it begins."""
    content = b""
    with contextlib.suppress(httpx.HTTPError):
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MOST_BYTES:
                break
    return content[:MOST_BYTES]


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
