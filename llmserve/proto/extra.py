"""Whether the packages of the extra `grpc` are installed. Imports none of them."""

from __future__ import annotations

from importlib.util import find_spec

from llmserve.errors import ConfigurationError


def require_grpc(why: str) -> None:
    """
    Raises:
        ConfigurationError: they are not, and `why` they are needed.
    """
    try:
        is_there = all(
            map(find_spec, ("grpc", "grpc_health", "grpc_reflection", "google.protobuf"))
        )
    except ModuleNotFoundError:  # of the package around one of them
        is_there = False
    if not is_there:
        raise ConfigurationError(f"{why}, and gRPC is not installed; pip install 'llmserve[grpc]'")
