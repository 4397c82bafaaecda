"""The port for gRPC, on which each worker listens for itself: free at the start, and kept."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from llmserve.address import authority
from llmserve.errors import ConfigurationError
from llmserve.proto.extra import require_grpc
from llmserve.settings import Settings


@contextlib.contextmanager
def reserved_port(settings: Settings) -> Iterator[int | None]:
    """Inside, the port is this server's, though no worker may listen at the moment; `None` where
    there is no gRPC.

    Raises:
        ConfigurationError: it is taken, or the extra is missing.
    """
    if settings.grpc_port is None:
        yield None
        return
    require_grpc("grpc_port is set")
    try:
        with _bound(settings.host, settings.grpc_port, socket.SO_REUSEADDR) as free:
            # Another server's workers share theirs, and would share it with ours.
            port = int(free.getsockname()[1])
        reservation = _bound(settings.host, port, socket.SO_REUSEPORT)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {authority(settings.host, settings.grpc_port)}: {error.strerror}; "
            "choose another `host` or `grpc_port`"
        ) from error
    with reservation:
        yield port


def _bound(host: str, port: int, option: int) -> socket.socket:
    """A socket that does not listen: the kernel sends it no connections."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
