"""What connections may send, how long they may take, and whom they must prove to be."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import grpc

from llmserve.errors import ConfigurationError
from llmserve.settings import Settings

PING_TIMEOUT_SECONDS: Final = 20
MIN_PING_SECONDS: Final = 5
"""A client that pings more often while it waits is told to go away."""
MOST: Final = 2**31 - 1
"""gRPC's numbers have 32 bits."""


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """The bounds of a connection, as gRPC calls them."""
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


def credentials_of(settings: Settings) -> grpc.ServerCredentials | None:
    """The server's certificate, and whose clients' it trusts; `None` without TLS.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    if settings.grpc_certfile is None or settings.grpc_keyfile is None:
        return None
    authorities = settings.grpc_client_ca_file
    return grpc.ssl_server_credentials(
        [(_read(settings.grpc_keyfile), _read(settings.grpc_certfile))],
        root_certificates=None if authorities is None else _read(authorities),
        require_client_auth=authorities is not None,
    )


def _ms(seconds: float) -> int:
    return min(int(seconds * 1000), MOST)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
