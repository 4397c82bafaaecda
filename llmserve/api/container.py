"""How routes reach what bootstrap built, and who is asking."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from llmserve.bootstrap import Container
from llmserve.domain import Caller


def get_container(connection: HTTPConnection) -> Container:
    """The container of the running application, for HTTP and WebSocket alike."""
    container = connection.app.state.container
    assert isinstance(container, Container)
    return container


async def identify(
    connection: HTTPConnection, container: Annotated[Container, Depends(get_container)]
) -> Caller:
    """Who presents the Authorization header.

    Raises:
        Unauthorized: keys are configured and none of them came along.
    """
    scheme, _, credential = connection.headers.get("authorization", "").partition(" ")
    is_bearer = scheme.lower() == "bearer" and bool(credential)
    # Headers come decoded as latin-1; keys are UTF-8.
    credential = credential.strip().encode("latin-1").decode(errors="surrogateescape")
    return container.keys.identify(credential if is_bearer else None)


TheContainer = Annotated[Container, Depends(get_container)]
TheCaller = Annotated[Caller, Depends(identify)]
