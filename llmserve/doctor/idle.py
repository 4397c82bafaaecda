"""Does something in between close connections that are silent for a while?"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from llmserve.doctor.finding import Finding, Verdict
from llmserve.doctor.target import Target
from llmserve.doctor.upgrade import NOT_A_SOCKET, socket_to

NAME: Final = "idle cut-off"
ALIVE_SECONDS: Final = 10.0
WAIT_LONGER: Final = (
    "nginx: `proxy_read_timeout 600s;` and `proxy_send_timeout 600s;`",
    (
        "HAProxy: `timeout tunnel 600s` for WebSockets, `timeout server 600s` and "
        "`timeout client 600s` for streams"
    ),
    (
        "ingress-nginx: nginx.ingress.kubernetes.io/proxy-read-timeout and proxy-send-timeout: "
        '"600"; a cloud load balancer: its idle timeout'
    ),
    "or set the server's keepalive_seconds below that timeout, which helps streams only",
)


async def check_idle(target: Target) -> Finding:
    """Keep a WebSocket silent, without pings of our own, and see whether it survives."""
    if target.idle_seconds <= 0:
        return Finding(NAME, Verdict.SKIPPED, "not asked for (--idle-seconds 0)")
    try:
        async with socket_to(target) as socket:
            return await _keep_silent(socket, target.idle_seconds)
    except NOT_A_SOCKET:
        return Finding(NAME, Verdict.SKIPPED, "there is no WebSocket to keep silent")


async def _keep_silent(socket: ClientConnection, idle_seconds: float) -> Finding:
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(idle_seconds):
            await socket.recv()
    except TimeoutError:
        return await _prove_alive(socket, idle_seconds)
    except ConnectionClosed:
        took = time.perf_counter() - begun
        return _cut(f"a silent WebSocket was cut after {took:.1f} s", took)
    return Finding(NAME, Verdict.SKIPPED, "the server sent something on a silent WebSocket")


async def _prove_alive(socket: ClientConnection, idle_seconds: float) -> Finding:
    """Send a ping: a middlebox that drops a connection does not say so."""
    try:
        async with asyncio.timeout(ALIVE_SECONDS):
            await (await socket.ping())
    except (TimeoutError, ConnectionClosed):
        return _cut(f"a WebSocket was dead after {idle_seconds:.0f} silent seconds", idle_seconds)
    return Finding(
        NAME,
        Verdict.OK,
        f"a WebSocket still works after {idle_seconds:g} silent seconds",
        figures={"idle_seconds": idle_seconds},
    )


def _cut(seen: str, seconds: float) -> Finding:
    return Finding(NAME, Verdict.PROBLEM, seen, WAIT_LONGER, {"cut_seconds": round(seconds, 1)})
