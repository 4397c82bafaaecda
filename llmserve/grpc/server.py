"""The gRPC server of a worker: how it starts, gives way and leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from loguru import logger

from llmserve.address import authority
from llmserve.bootstrap import Container
from llmserve.errors import ConfigurationError
from llmserve.fleet.board import Preference
from llmserve.grpc.edge import CallEdge
from llmserve.grpc.health import HealthServicer
from llmserve.grpc.options import credentials_of, server_options
from llmserve.grpc.servicer import GenerationServicer
from llmserve.proto.v1 import generation_pb2, generation_pb2_grpc
from llmserve.settings import Settings
from llmserve.trouble import Trouble

SERVICES: Final = (
    generation_pb2.DESCRIPTOR.services_by_name["Generation"].full_name,
    health.SERVICE_NAME,
    reflection.SERVICE_NAME,
)
POLL_SECONDS: Final = 0.25
LEAVE_SECONDS: Final = 1.0
"""Once no generation is open: for the last messages, and for those who watch."""


@contextlib.asynccontextmanager
async def serving(container: Container) -> AsyncIterator[int]:
    """Inside, calls are answered at the port that is yielded; on the way out they are drained.

    Raises:
        ConfigurationError: a certificate cannot be used, or the port is taken.
    """
    server = _Server(container)
    port = container.settings.grpc_port or 0
    if not server.leaves_calls_to_others:
        port = await server.listen()
    life = asyncio.create_task(server.live(), name="grpc")
    try:
        yield port
    finally:
        # Meanwhile calls are refused with a reason, and health says the same.
        await container.service.drain(container.settings.drain_timeout_seconds)
        life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await life
        await server.stop(LEAVE_SECONDS)


class _Server:
    """Of one worker, on the port that all workers of the box share."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._settings = settings = container.settings
        self._credentials = credentials_of(settings)
        self._server = server = grpc.aio.server(
            interceptors=[CallEdge(container)],
            options=server_options(settings),
            maximum_concurrent_rpcs=settings.max_connections,
        )
        generation_pb2_grpc.add_GenerationServicer_to_server(GenerationServicer(container), server)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(container), server)
        reflection.enable_server_reflection(SERVICES, server)
        self._is_listening = False

    @property
    def leaves_calls_to_others(self) -> bool:
        """Whether this worker still loads and another one can serve: the kernel would give both
        their share of connections."""
        member = self._container.membership
        if member is None:
            return False
        return member.board.is_better_elsewhere(member.number, 0) is Preference.ELSEWHERE

    async def listen(self) -> int:
        """Answer calls from now on; returns the port.

        Raises:
            ConfigurationError: the port is taken, or the certificate is none.
        """
        port = _listen(self._server, self._settings, self._credentials)
        await self._server.start()
        self._is_listening = True
        logger.info("gRPC on {}{}", authority(self._settings.host, port),
                    "" if self._credentials is None else " with TLS")  # fmt: skip
        return port

    async def live(self) -> None:
        """Listen once this worker can serve, and no more once another takes over; what was begun
        is finished. New connections come to the other workers, and open ones are sent there."""
        trouble = Trouble("gRPC", "it is tried again")
        while not self._is_listening:
            await asyncio.sleep(POLL_SECONDS)
            if not self.leaves_calls_to_others:
                try:
                    await self.listen()
                    trouble.is_over()
                except ConfigurationError as error:
                    trouble.begins(error)
        while not self._container.service.is_retiring:  # noqa: ASYNC110 - others poll the flag, too
            await asyncio.sleep(POLL_SECONDS)
        await self.stop(self._settings.request_timeout_seconds)

    async def stop(self, seconds: float) -> None:
        """Take no more calls; those that are open have so long."""
        await self._server.stop(seconds)


def _listen(
    server: grpc.aio.Server, settings: Settings, credentials: grpc.ServerCredentials | None
) -> int:
    at = authority(settings.host, settings.grpc_port or 0)
    try:
        if credentials is None:
            return server.add_insecure_port(at)
        return server.add_secure_port(at, credentials)
    except RuntimeError as error:
        raise ConfigurationError(
            f"gRPC cannot listen on {at}: {error}; choose another `grpc_port`, or look at the "
            "certificate"
        ) from error
