"""gRPC beside HTTP: in the same process, on the same event loop, over the same service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from llmserve.bootstrap import Container
from llmserve.proto.extra import require_grpc


@contextlib.asynccontextmanager
async def serve_beside(container: Container) -> AsyncIterator[None]:
    """Inside, calls are answered, if settings have a port for them.

    Raises:
        ConfigurationError: the extra is missing, a certificate cannot be used, the port is taken.
    """
    if container.settings.grpc_port is None:
        yield
        return
    require_grpc("grpc_port is set")
    from llmserve.grpc.server import serving  # takes a moment, and needs the extra

    async with serving(container):
        yield
