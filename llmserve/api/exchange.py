"""One HTTP request for generations: what it came with, and the tickets that it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends, Request

from llmserve.api.container import TheCaller, TheContainer
from llmserve.api.edge.disconnect import unless_client_leaves
from llmserve.api.edge.timeouts import TheTimeout
from llmserve.api.encoding_body import EncodingBody
from llmserve.api.fields import Fields
from llmserve.api.generation_body import GenerationBody
from llmserve.api.ignored import report_ignored
from llmserve.bootstrap import Container
from llmserve.domain import Caller, EncodingAnswer, GenerationRequest
from llmserve.errors import InvalidRequest
from llmserve.registry.served import ServedModel
from llmserve.service import Generation
from llmserve.service.reading import Reading

if TYPE_CHECKING:
    from llmserve.text.tokenizer import Tokenizer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on its way to an answer.

    Attributes:
        timeout_seconds: from the request's headers, `None` without one.
        opened: closes the generations once the response has been sent, or cannot be.
    """

    request: Request
    container: Container
    caller: Caller
    timeout_seconds: float | None
    opened: AsyncExitStack

    async def open(self, body: GenerationBody) -> Sequence[Generation]:
        """Take a ticket for each generation that the body asks for, or for none.

        Raises:
            LLMServeError: the request is refused; see `Service.open_all`.
        """
        self.report_ignored(body)
        count, most = body.num_requests, self.container.settings.max_prompts_per_request
        if count > most:
            raise InvalidRequest(
                f"prompts × n is {count} and this server takes {most} per request; split it",
                param="n",
            )
        requests = await self._requests(body)
        generations = self.container.service.open_all(requests, self.caller)
        return await self.opened.enter_async_context(generations)

    async def read(
        self, model: str | None, work: Callable[[Tokenizer], T], size: int = 0
    ) -> tuple[ServedModel, T]:
        """The model of this name, and what the work makes of its tokenizer; `size` is how many
        characters or tokens it reads.

        Raises:
            LLMServeError: the request is refused; see `Service.read`.
        """
        request_id = self.request.scope["request_id"]
        reading = Reading(request_id, model, work, size, self.timeout_seconds)
        return await self.container.service.read(reading, self.caller)

    async def encode(self, body: EncodingBody) -> EncodingAnswer:
        """What a model makes of the body's inputs.

        Raises:
            ClientGone: the client hung up, and the work was ended.
            LLMServeError: the request is refused or failed; see `Service.encode`.
        """
        self.report_ignored(body)
        request = body.encoding(self.request.scope["request_id"], self.timeout_seconds)
        encoding = self.container.service.encode(request, self.caller)
        return await unless_client_leaves(self.request, encoding)

    def report_ignored(self, body: Fields) -> None:
        """Tell the client of the fields that nobody knows.

        Raises:
            InvalidRequest: there is one, and the server is strict.
        """
        report_ignored(body, self.request, self.container, self.caller)

    async def count(self, body: GenerationBody) -> int:
        """How many tokens the body's only prompt has.

        Raises:
            LLMServeError: the request is refused; see `Service.count`.
        """
        report_ignored(body, self.request, self.container, self.caller)
        [request] = await self._requests(body)
        return await self.container.service.count(request, self.caller)

    async def _requests(self, body: GenerationBody) -> Sequence[GenerationRequest]:
        request_id = self.request.scope["request_id"]
        if body.is_long:
            return await asyncio.to_thread(body.requests, request_id, self.timeout_seconds)
        return body.requests(request_id, self.timeout_seconds)


async def _exchange(
    request: Request, container: TheContainer, caller: TheCaller, timeout: TheTimeout
) -> AsyncIterator[Exchange]:
    """FastAPI leaves a `yield` dependency on every way out of the request."""
    async with AsyncExitStack() as opened:
        yield Exchange(request, container, caller, timeout, opened)


TheExchange = Annotated[Exchange, Depends(_exchange)]
