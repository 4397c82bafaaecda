"""Clients that stream over gRPC, one call after another, until they are told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc

from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


@dataclass
class GrpcCrowd:
    """`ends` has how each call ended: a finish, or the error's status and words."""

    address: str
    max_tokens: int
    pause_seconds: float
    ends: list[str] = field(default_factory=list)
    is_over: bool = False

    async def stranger(self) -> None:
        """A connection for each call."""
        while not self.is_over:
            async with grpc.aio.insecure_channel(self.address, OWN_CONNECTION) as channel:
                await self._call(channel)

    async def regular(self) -> None:
        """All calls on one connection."""
        async with grpc.aio.insecure_channel(self.address, OWN_CONNECTION) as channel:
            while not self.is_over:
                await self._call(channel)

    async def _call(self, channel: grpc.aio.Channel) -> None:
        sampling = pb.Sampling(max_tokens=self.max_tokens, ignore_eos=True)
        request = pb.GenerateRequest(text="hi", options=pb.Options(sampling=sampling))
        end = "nothing"
        try:
            # A connection that was just being made when a worker left is made again.
            async for event in GenerationStub(channel).Generate(request, wait_for_ready=True):
                end = str(event.WhichOneof("event"))
        except grpc.aio.AioRpcError as error:
            if end == "nothing" and error.code() is grpc.StatusCode.CANCELLED:
                return  # it came as a worker stopped: made again, as the page says
            end = f"{error.code().name}: {error.details()}"
        self.ends.append(end)
        await asyncio.sleep(self.pause_seconds)


@contextlib.asynccontextmanager
async def grpc_crowd(
    address: str, *, max_tokens: int, pause_seconds: float
) -> AsyncIterator[GrpcCrowd]:
    """One stranger and one regular; on the way out their last calls end."""
    crowd = GrpcCrowd(address, max_tokens, pause_seconds)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crowd.stranger())
        tasks.create_task(crowd.regular())
        yield crowd
        crowd.is_over = True
