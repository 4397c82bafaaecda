"""What tests ask of a box with several workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
from server import Server

POLL_SECONDS = 0.2
"""Every question about a box costs each of its workers a few milliseconds."""


def pids(server: Server) -> dict[int, int]:
    """The process of each worker that serves, by number."""
    status = httpx.get(server.url + "/admin/status", timeout=20).json()
    return {w["worker"]: w["pid"] for w in status["workers"] if w["state"] == "serving"}


def is_replaced(server: Server, victim: int) -> bool:
    """Whether two workers serve and none of them is this process."""
    serving = pids(server).values()
    return len(serving) == 2 and victim not in serving


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Ask until something is so."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(POLL_SECONDS)


async def until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    """Ask in a thread until something is so."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(POLL_SECONDS)
