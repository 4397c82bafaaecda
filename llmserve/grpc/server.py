"""The gRPC server of a worker: its port, its bounds, how it starts and how it leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from loguru import logger

from llmserve.address import authority
from llmserve.bootstrap import Container
from llmserve.errors import ConfigurationError
from llmserve.grpc.edge import CallEdge
from llmserve.grpc.health import HealthServicer
from llmserve.grpc.servicer import GenerationServicer
from llmserve.proto.v1 import generation_pb2, generation_pb2_grpc
from llmserve.settings import Settings

SERVICES: Final = (
    generation_pb2.DESCRIPTOR.services_by_name["Generation"].full_name,
    health.SERVICE_NAME,
    reflection.SERVICE_NAME,
)
POLL_SECONDS: Final = 0.25
LEAVE_SECONDS: Final = 1.0
"""Once no generation is open: for the last messages, and for those who watch."""
PING_TIMEOUT_SECONDS: Final = 20
MIN_PING_SECONDS: Final = 5
"""A client that pings more often while it waits is told to go away."""


@contextlib.asynccontextmanager
async def serving(container: Container) -> AsyncIterator[int]:
    """Inside, calls are answered at the port that is yielded; on the way out they are drained.

    Raises:
        ConfigurationError: a certificate cannot be used, or the port is taken.
    """
    settings, service = container.settings, container.service
    server = grpc.aio.server(
        interceptors=[CallEdge(container)],
        options=server_options(settings),
        maximum_concurrent_rpcs=settings.max_connections,
    )
    generation_pb2_grpc.add_GenerationServicer_to_server(GenerationServicer(container), server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(container), server)
    reflection.enable_server_reflection(SERVICES, server)
    port = _listen(server, settings)
    await server.start()
    logger.info("gRPC on {}{}", authority(settings.host, port),
                "" if settings.grpc_certfile is None else " with TLS")  # fmt: skip
    retirement = asyncio.create_task(_stop_when_retiring(server, container), name="grpc-retirement")
    try:
        yield port
    finally:
        # Calls are refused with a reason and health says why, as long as answers are finished.
        await service.drain(settings.drain_timeout_seconds)
        retirement.cancel()
        await server.stop(LEAVE_SECONDS)
        with contextlib.suppress(asyncio.CancelledError):
            await retirement


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """What connections may send, and how long they may take."""
    return [
        ("grpc.so_reuseport", 1),  # each worker of the box listens for itself
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.max_concurrent_streams", settings.grpc_max_streams),
        ("grpc.keepalive_time_ms", _ms(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _ms(PING_TIMEOUT_SECONDS)),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(MIN_PING_SECONDS)),
        ("grpc.max_connection_idle_ms", _ms(settings.idle_connection_seconds)),
        ("grpc.max_connection_age_ms", _ms(settings.grpc_connection_seconds)),
        ("grpc.max_connection_age_grace_ms", _ms(settings.request_timeout_seconds)),
    ]


def _ms(seconds: float) -> int:
    return min(int(seconds * 1000), 2**31 - 1)


def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    assert settings.grpc_port is not None, "it is off otherwise"
    at = authority(settings.host, settings.grpc_port)
    credentials = _credentials(settings)
    try:
        if credentials is None:
            return server.add_insecure_port(at)
        return server.add_secure_port(at, credentials)
    except RuntimeError as error:
        raise ConfigurationError(
            f"gRPC cannot listen on {at}: {error}; choose another `grpc_port`, or look at the "
            "certificate"
        ) from error


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.grpc_certfile is None or settings.grpc_keyfile is None:
        return None
    authorities = settings.grpc_client_ca_file
    return grpc.ssl_server_credentials(
        [(_read(settings.grpc_keyfile), _read(settings.grpc_certfile))],
        root_certificates=None if authorities is None else _read(authorities),
        require_client_auth=authorities is not None,
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error


async def _stop_when_retiring(server: grpc.aio.Server, container: Container) -> None:
    """Another worker takes over: accept nothing, send clients there, finish what was begun."""
    while not container.service.is_retiring:  # noqa: ASYNC110 - a flag, which is polled everywhere
        await asyncio.sleep(POLL_SECONDS)
    await server.stop(container.settings.request_timeout_seconds)
