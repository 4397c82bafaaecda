"""Does /ws become a WebSocket, and do a prompt and a cancel work on it?"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from llmserve.doctor.answer import printable
from llmserve.doctor.finding import Finding, Verdict
from llmserve.doctor.target import CONNECT_SECONDS, READ_SECONDS, Target

NAME: Final = "WebSocket"
FRAME_ID: Final = "doctor"
MAX_TOKENS: Final = 100_000
MAX_FRAMES: Final = 10_000
CLOSE_SECONDS: Final = 2.0
NOT_A_SOCKET: Final = (WebSocketException, OSError)
"""Errors of a failed connection."""

PASS_UPGRADE: Final = (
    (
        "nginx: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
        'proxy_set_header Connection "upgrade";` for this location'
    ),
    "HAProxy: `mode http`, and no `http-request del-header` of Upgrade or Connection",
    "ingress-nginx: passes upgrades by itself; a load balancer before it must speak HTTP/1.1",
)


def socket_to(target: Target) -> connect:
    """A connection attempt that sends no pings of its own."""
    context: ssl.SSLContext | None = target.ssl_context() if target.is_tls else None
    return connect(
        target.websocket_url,
        additional_headers=target.headers,
        ssl=context,
        open_timeout=CONNECT_SECONDS,
        close_timeout=CLOSE_SECONDS,
        ping_interval=None,
    )


async def check_upgrade(target: Target) -> Finding:
    """Connect, start a long generation, and cancel it by a message."""
    try:
        async with socket_to(target) as socket, asyncio.timeout(READ_SECONDS):
            return await _converse(socket, target)
    except InvalidStatus as error:
        return _refused(error)
    except ConnectionClosed as error:
        seen = f"the socket opened, but was closed: {printable(str(error))}"
        return Finding(NAME, Verdict.PROBLEM, seen, PASS_UPGRADE)
    except TimeoutError:
        seen = f"no answer on /ws within {READ_SECONDS:.0f} s"
        return Finding(NAME, Verdict.PROBLEM, seen, PASS_UPGRADE)
    except NOT_A_SOCKET as error:
        seen = f"/ws does not become a WebSocket: {printable(str(error))}"
        return Finding(NAME, Verdict.PROBLEM, seen, PASS_UPGRADE)


async def _converse(socket: ClientConnection, target: Target) -> Finding:
    await socket.send(json.dumps(target.prompt(MAX_TOKENS) | {"id": FRAME_ID}))
    first = await _until(socket, {"token", "done", "error"})
    if first.get("type") == "error":
        message = printable(str((first.get("error") or {}).get("message", first)))
        return Finding(NAME, Verdict.WARNING, f"upgraded, but the prompt was refused: {message}")
    if first.get("type") == "done":
        return Finding(NAME, Verdict.OK, "upgraded; the answer had no token to cancel after")
    asked = time.perf_counter()
    await socket.send(json.dumps({"type": "cancel", "id": FRAME_ID}))
    last = await _until(socket, {"done", "error"})
    took = 1000 * (time.perf_counter() - asked)
    figures = {"cancel_ms": round(took, 1)}
    if last.get("finish_reason") == "cancelled":
        seen = f"upgraded; a prompt was answered, and cancelled within {took:.0f} ms"
        return Finding(NAME, Verdict.OK, seen, figures=figures)
    seen = "upgraded; a prompt was answered, and ended before it could be cancelled"
    return Finding(NAME, Verdict.OK, seen, figures=figures)


async def _until(socket: ClientConnection, kinds: set[str]) -> Mapping[str, Any]:
    """The next frame of one of these types; an unreadable one counts as an error."""
    for _ in range(MAX_FRAMES):
        raw = await socket.recv()
        try:
            frame = json.loads(raw)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            return {"type": "error", "error": {"message": "a frame that is not a JSON object"}}
        if frame.get("type") in kinds:
            return frame
    return {"type": "error", "error": {"message": f"no end within {MAX_FRAMES:,} frames"}}


def _refused(error: InvalidStatus) -> Finding:
    status = error.response.status_code
    figures = {"status": status}
    seen = f"/ws answers {status} instead of 101"
    if status in {401, 403}:
        change = ("give a key that this server accepts, and see `authorization`",)
        return Finding(NAME, Verdict.PROBLEM, seen, change, figures)
    return Finding(NAME, Verdict.PROBLEM, seen, PASS_UPGRADE, figures)
