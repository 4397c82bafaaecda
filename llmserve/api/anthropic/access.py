"""Who is calling: Anthropic's clients send their key as `x-api-key`, or as a bearer token."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from llmserve.api.container import credential_of
from llmserve.bootstrap import Container
from llmserve.domain import Caller
from llmserve.errors import Unauthorized


async def identify_by_key(connection: HTTPConnection, container: Container) -> Caller:
    """The caller, kept in the scope for the route, the access log and the limit headers. Where both
    headers come, the bearer token counts.

    Raises:
        Unauthorized: keys are configured, and the client presents none of them.
    """
    credential = credential_of(connection) or _own_header(connection)
    try:
        caller = container.keys.identify(credential)
    except Unauthorized:
        if credential is not None:
            raise
        raise Unauthorized(
            "no API key; send it as `x-api-key: YOUR_KEY` or `Authorization: Bearer YOUR_KEY`"
        ) from None
    connection.scope["caller"] = caller
    return caller


def _own_header(connection: HTTPConnection) -> str | None:
    key = connection.headers.get("x-api-key", "").strip()
    # Headers come decoded as latin-1; keys are UTF-8.
    return key.encode("latin-1").decode(errors="surrogateescape") or None
