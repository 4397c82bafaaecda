"""A gRPC server over a fake engine, in this process, and its client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from fake_engine import FakeEngine

from llmserve import bootstrap
from llmserve.bootstrap import Container, server
from llmserve.domain import ModelSpec
from llmserve.grpc.server import serving
from llmserve.observability.metrics import Metrics
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.settings import Settings

Metadata = Sequence[tuple[str, str]]


@dataclass
class Desk:
    """`address` is the server's, `channel` a client's connection to it."""

    container: Container
    engine: Any
    address: str
    channel: grpc.aio.Channel

    @property
    def stub(self) -> Any:
        return GenerationStub(self.channel)

    @property
    def load(self) -> tuple[int, int]:
        return self.container.service.load(self.container.registry.models[0])

    def sample(self, name: str, **labels: str) -> float:
        lines = self.container.metrics.render().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(name + "{")
            and all(f'{key}="{value}"' in line for key, value in labels.items())
        )


Opening = Callable[..., contextlib.AbstractAsyncContextManager[Desk]]


def opening(monkeypatch: pytest.MonkeyPatch) -> Opening:
    """Opens desks, several at a time if need be; each has its own engine in place of a real one."""

    @contextlib.asynccontextmanager
    async def desk(engine: Any = None, **fields: Any) -> AsyncIterator[Desk]:
        engine = engine or FakeEngine()
        registry = Registry([ModelSpec("fake", aliases=("nick",))])
        monkeypatch.setattr(server, "build_registry", lambda *_, **__: registry)
        monkeypatch.setattr(server, "build_loader", lambda *_: Loader(registry, lambda _: engine))
        settings = Settings(**{"grpc_port": 0, "drain_timeout_seconds": 1.0, **fields})
        async with (
            bootstrap.run(settings, Metrics()) as container,
            serving(container) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            yield Desk(container, engine, f"127.0.0.1:{port}", channel)
            if isinstance(engine, FakeEngine):
                engine.finish_all()

    return desk


async def events_of(call: Any) -> list[pb.GenerationEvent]:
    """The rest of them."""
    events: list[pb.GenerationEvent] = []
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(event)
    return events


def kinds(events: Sequence[pb.GenerationEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call ends with, unary or streamed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else events_of(call))
    return caught.value


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str]:
    return {key: str(value) for key, value in error.trailing_metadata()}
