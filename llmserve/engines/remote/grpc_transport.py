"""An upstream that is another llmserve, spoken to over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from llmserve.domain import GenerationRequest, RemoteSpec, SamplingFields
from llmserve.engines.remote.grpc_answer import GrpcAnswer
from llmserve.engines.remote.grpc_connections import GrpcConnections
from llmserve.engines.remote.grpc_refusal import raised_by
from llmserve.engines.remote.grpc_request import GrpcRequest, write
from llmserve.engines.remote.key import UpstreamKey
from llmserve.engines.remote.learned_tokens import LearnedTokens
from llmserve.engines.remote.server_kind import ServerKind
from llmserve.engines.remote.transport import (
    Piece,
    Served,
    Transport,
    Unwell,
)
from llmserve.errors import UpstreamFailed
from llmserve.proto.metadata import DRAINING
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub

PROBE_SECONDS: Final = 5.0
USABLE: Final = frozenset({"ready", "unloaded"})


@dataclass(slots=True)
class GrpcTransport(Transport):
    """Attributes:
    operators: sampling of the manifest.
    tokens: what tokens of log probabilities are called.
    """

    connections: GrpcConnections
    spec: RemoteSpec
    key: UpstreamKey
    operators: SamplingFields
    tokens: LearnedTokens

    @property
    def language(self) -> Hashable:
        return "grpc"

    def write(self, request: GenerationRequest) -> GrpcRequest:
        return write(request, self.spec.model, self.operators)

    async def describe(self) -> Served:
        with self.connections.borrowed() as channel:
            try:
                listed = await GenerationStub(channel).ListModels(
                    pb.ListModelsRequest(), metadata=self._metadata({}), timeout=PROBE_SECONDS
                )
            except grpc.aio.AioRpcError as error:
                raise Unwell(_why(error)) from error
        for model in listed.models:
            if self.spec.model in (model.name, *model.aliases):
                return Served(
                    ServerKind.LLMSERVE, has_model=model.status in USABLE, facts=_facts(model)
                )
        return Served(ServerKind.LLMSERVE, has_model=False)

    async def check(self) -> None:
        request = health_pb2.HealthCheckRequest(service=self.spec.model)
        with self.connections.borrowed() as channel:
            call = HealthStub(channel).Check(request, timeout=PROBE_SECONDS)
            try:
                answer = await call
            except grpc.aio.AioRpcError as error:
                raise Unwell(_why(error)) from error
            trailers = dict(await call.trailing_metadata() or ())
        if DRAINING in trailers:
            raise Unwell("it is shutting down", is_draining=True)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise Unwell("the model is not served there at the moment")

    async def answer(
        self, written: GrpcRequest, headers: Mapping[str, str]
    ) -> AsyncGenerator[Piece]:
        with self.connections.borrowed() as channel:
            await self.connections.connect(channel)
            answer = GrpcAnswer(self.tokens)
            call = self._call(channel, written, headers)
            try:
                while (message := await call.read()) is not grpc.aio.EOF:
                    for piece in answer.read(message):
                        yield piece
            except grpc.aio.AioRpcError as error:
                raise raised_by(error, self.key.value, is_accepted=answer.is_accepted) from error
            finally:
                call.cancel()  # which does nothing to one that has ended
            if not answer.is_over:
                raise UpstreamFailed("the server of this model ended the answer in the middle")

    async def close(self) -> None:
        await self.connections.close()

    def _call(
        self, channel: grpc.aio.Channel, written: GrpcRequest, headers: Mapping[str, str]
    ) -> Any:
        stub, message = GenerationStub(channel), written.message
        method = stub.Chat if isinstance(message, pb.ChatRequest) else stub.Generate
        return method(message, metadata=self._metadata(headers), timeout=written.timeout_seconds)

    def _metadata(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        metadata = [(name.lower(), value) for name, value in headers.items()]
        if self.key.value is not None:
            metadata.append(("authorization", f"Bearer {self.key.value}"))
        return metadata


def _facts(model: pb.Model) -> dict[str, Any]:
    """What a list of models over HTTP has, too."""
    return {
        "id": model.name,
        "max_model_len": model.max_context or None,
        "architecture": model.architecture,
        "reasoning": "reasoning" in model.capabilities,
    }


def _why(error: grpc.aio.AioRpcError) -> str:
    return f"it answers {error.code().name}: {error.details()}"
