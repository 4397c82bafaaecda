"""Close-delimited responses for HTTP/1.0, which has no chunked encoding."""

from __future__ import annotations

from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGISendEvent,
    Scope,
)
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def close_delimited(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Wrap the application for one HTTP/1.0 request, to which Uvicorn would send chunks.

    A response with a Content-Length is left alone. Uvicorn closes the connection after either.
    """
    is_open_ended = False

    async def send(event: ASGISendEvent) -> None:
        nonlocal is_open_ended
        if event["type"] == "http.response.start":
            names = {name.lower() for name, _ in event.get("headers", ())}
            is_open_ended = b"content-length" not in names
            if is_open_ended:
                cycle.chunked_encoding = False
        elif is_open_ended and event["type"] == "http.response.body":
            # Uvicorn checks every part against the expected length.
            cycle.expected_content_length = len(event.get("body", b""))
        await cycle.send(event)

    async def answer(scope: Scope, receive: ASGIReceiveCallable, _: object) -> None:
        await app(scope, receive, send)

    return answer
