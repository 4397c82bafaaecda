"""The port for gRPC, on which each worker listens for itself: free at the start, and kept; with
certificates that can be used."""

from __future__ import annotations

import contextlib
import socket
import ssl
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
        ConfigurationError: it is taken, the extra is missing, or a certificate cannot be used.
    """
    if settings.grpc_port is None:
        yield None
        return
    require_grpc("grpc_port is set")
    _check_certificates(settings)
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


def _check_certificates(settings: Settings) -> None:
    """Here, where a mistake is one line and no worker's traceback."""
    if settings.grpc_certfile is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        names = f"grpc_certfile {settings.grpc_certfile} and its grpc_keyfile"
        context.load_cert_chain(settings.grpc_certfile, settings.grpc_keyfile, lambda: b"")
        names = f"grpc_client_ca_file {settings.grpc_client_ca_file}"
        if settings.grpc_client_ca_file is not None:
            context.load_verify_locations(settings.grpc_client_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{names} cannot be used: {error.strerror or error}; both are PEM files, the key "
            "without a password"
        ) from error


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
