"""How routes reach what bootstrap built, and who is calling."""

from __future__ import annotations

from typing import Annotated, Final, cast

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.types import Scope

from llmserve.admission.credential import bearer
from llmserve.bootstrap import Container
from llmserve.domain import Caller

WEBSOCKET_KEY: Final = "llmserve.key."
"""A browser cannot set a WebSocket's headers, but it can ask for a subprotocol with this prefix."""
INSIDE: Final = "llmserve.inside"
"""The scope's key for the caller of a request that this server makes to itself."""


def container_of(scope: Scope) -> Container:
    """The running application's container, of an HTTP request's or a WebSocket's scope."""
    container = scope["app"].state.container
    assert isinstance(container, Container)
    return container


def credential_of(connection: HTTPConnection) -> str | None:
    """The key that a client presents: a bearer token, or a WebSocket's subprotocol."""
    credential = bearer(connection.headers.get("authorization", ""))
    if credential is not None:
        # Headers come decoded as latin-1; keys are UTF-8.
        return credential.encode("latin-1").decode(errors="surrogateescape")
    for protocol in connection.scope.get("subprotocols", ()):
        if protocol.startswith(WEBSOCKET_KEY):
            return str(protocol).removeprefix(WEBSOCKET_KEY)
    return None


async def identify(connection: HTTPConnection, container: Container) -> Caller:
    """The caller who presents this key, kept in the scope for the route, the access log and the
    limit headers.

    Raises:
        Unauthorized: keys are configured, and the client presents none of them.
    """
    inside: Caller | None = connection.scope.get(INSIDE)
    caller = inside or container.keys.identify(credential_of(connection))
    connection.scope["caller"] = caller
    return caller


# FastAPI would run plain functions on a thread, which takes longer than all they do.
async def _container(connection: HTTPConnection) -> Container:
    return container_of(connection.scope)


async def _caller(connection: HTTPConnection) -> Caller:
    return cast(Caller, connection.scope["caller"])


TheContainer = Annotated[Container, Depends(_container)]
TheCaller = Annotated[Caller, Depends(_caller)]
"""The caller whom the route let in (`keyed_route`)."""
