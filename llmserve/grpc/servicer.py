"""The calls of `llmserve.v1.Generation`: from a message to a generation, and back as a stream."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import grpc
from loguru import logger

from llmserve.bootstrap import Container
from llmserve.domain import Cancelled, Failed, Finish, FinishReason, GenerationRequest, Terminal
from llmserve.errors import InvalidRequest
from llmserve.grpc.call import Call, current_call
from llmserve.grpc.edge import Context
from llmserve.grpc.messages import messages_of
from llmserve.grpc.models import model_of
from llmserve.grpc.send_limit import SendLimit
from llmserve.grpc.status import CallEnded
from llmserve.grpc.translate import Request, request_of
from llmserve.grpc.unknown_fields import unknown_fields
from llmserve.proto.metadata import IGNORED_FIELDS, REQUEST_ID
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1 import generation_pb2_grpc
from llmserve.service import Generation

MAX_REPORTED: Final = 16
LARGE_BYTES: Final = 2**18
"""A larger message is translated in a thread: 4 MB can take a second."""


class GenerationServicer(generation_pb2_grpc.GenerationServicer):
    """Answers inside a `CallEdge`. No generator owns a slot: messages are written one by one, and
    a call that is cancelled is left like any block."""

    def __init__(self, container: Container) -> None:
        self._container = container

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> None:
        """Continue a prompt."""
        await self._stream(request, context)

    async def Chat(self, request: pb.ChatRequest, context: Context) -> None:
        """Answer a conversation."""
        await self._stream(request, context)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """Every served model that the caller may use."""
        call = current_call.get()
        self._report_unknown(request, call, context)
        everything = self._container.registry.everything
        return pb.ListModelsResponse(
            models=[model_of(one) for one in everything if call.caller.may_use(one.permissions)]
        )

    async def _stream(self, sent: Request, context: Context) -> None:
        call = current_call.get()
        self._report_unknown(sent, call, context)
        request = await self._request(sent, call, context)
        async with self._container.service.open(request, call.caller) as generation:
            # Not before: what has answered is not tried again by a client's own policy.
            await context.send_initial_metadata(((REQUEST_ID, call.id),))
            await self._write(generation, context)
        assert generation.terminal is not None, "a stream ended without a terminal event"
        _end(generation.terminal, context)

    async def _request(self, sent: Request, call: Call, context: Context) -> GenerationRequest:
        depth = self._container.settings.max_json_depth
        arguments = (sent, call.id, context.time_remaining(), depth)
        if sent.ByteSize() > LARGE_BYTES:
            return await asyncio.to_thread(request_of, *arguments)
        return request_of(*arguments)

    async def _write(self, generation: Generation, context: Context) -> None:
        """Write every event. A slow reader blocks only this: deltas merge while it does not read.

        Raises:
            CallEnded: it takes nothing for too long.
        """
        model, spell = generation.model, generation.spelling
        try:
            async with (
                SendLimit(self._container.settings.send_timeout_seconds) as limit,
                contextlib.aclosing(generation.events()) as events,
            ):
                async for event in events:
                    for message in messages_of(event, model, spell):
                        await limit.send(context.write(message))
        except TimeoutError:
            logger.info("the client takes nothing: its call is ended")
            raise CallEnded(
                grpc.StatusCode.CANCELLED, "the client took nothing of the stream for too long"
            ) from None

    def _report_unknown(self, sent: Any, call: Call, context: Context) -> None:
        """Tell the client of fields that only newer servers know.

        Raises:
            InvalidRequest: there is one, and the server is strict.
        """
        fields = unknown_fields(sent, MAX_REPORTED)
        if not fields:
            return
        if self._container.settings.strict_fields:
            raise InvalidRequest(
                f"{fields[0]!r} is not a field of this request; leave it out", param=fields[0]
            )
        self._container.ignored_fields.tell(call.caller.name, fields)
        context.set_trailing_metadata(((IGNORED_FIELDS, ", ".join(fields)),))


def _end(terminal: Terminal, context: Context) -> None:
    """
    Raises:
        LLMServeError: the generation failed.
        CallEnded: it was cancelled, or the call's own deadline came.
    """
    left = context.time_remaining()
    match terminal:
        case Failed(error, _):
            raise error
        case Cancelled():
            raise CallEnded(grpc.StatusCode.CANCELLED, "the generation was cancelled")
        case Finish(FinishReason.TIMEOUT) if left is not None and left <= 0:
            raise CallEnded(grpc.StatusCode.DEADLINE_EXCEEDED, "the call's deadline has come")
