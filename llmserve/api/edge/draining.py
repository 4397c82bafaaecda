"""SIGTERM and Ctrl-C: drain first, then let the server exit.

Uvicorn closes its port as soon as it is told to exit and ends the lifespan only when every
connection is closed: too late for a readiness of 503 and for a drain deadline. So our signal
handler calls Uvicorn's once the drain is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Final

from loguru import logger

from llmserve.service import Service

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
EXIT_SECONDS: Final = 20
"""From the drain to a forced exit: a thread may hang in a download or a kernel."""


@contextlib.contextmanager
def drain_on_signal(service: Service, timeout_seconds: float) -> Iterator[None]:
    """Within the context, a signal for Uvicorn starts a drain; a second Ctrl-C cuts it short.

    Does nothing where Uvicorn has not taken the signals (tests, other servers): there the
    drain happens when the lifespan ends.
    """
    originals: dict[int, Any] = {sig: signal.getsignal(sig) for sig in SIGNALS}
    if not all(hasattr(getattr(h, "__self__", None), "should_exit") for h in originals.values()):
        yield
        return
    drain = _Drain(service, timeout_seconds, asyncio.get_running_loop(), originals)
    for taken in SIGNALS:
        signal.signal(taken, drain.on_signal)
    try:
        yield
    finally:
        for sig, handler in originals.items():
            signal.signal(sig, handler)


class _Drain:
    """`on_signal` runs in the main thread between two bytecodes, the rest on the event loop."""

    def __init__(
        self,
        service: Service,
        timeout_seconds: float,
        loop: asyncio.AbstractEventLoop,
        originals: Mapping[int, Any],
    ) -> None:
        self._service = service
        self._timeout_seconds = timeout_seconds
        self._loop = loop
        self._originals = originals
        self._task: asyncio.Task[None] | None = None

    def on_signal(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._begin, sig)

    def _begin(self, sig: int) -> None:
        if self._task is None:
            logger.info("{}: draining", signal.Signals(sig).name)
            self._task = self._loop.create_task(self._run(sig), name="drain")
        elif sig == signal.SIGINT:
            # A terminal sends Ctrl-C to every process and Uvicorn's parent adds a SIGTERM:
            # only a second Ctrl-C means that somebody is impatient.
            logger.warning("second Ctrl-C: running generations are cut short")
            self._service.cut_short()

    async def _run(self, sig: int) -> None:
        try:
            await self._service.drain(self._timeout_seconds)
        finally:
            _exit_anyway_after(EXIT_SECONDS)
            self._originals[sig](sig, None)


def _exit_anyway_after(seconds: int) -> None:
    def leave() -> None:
        for _ in range(seconds):  # if the process is paused, that ends one of these waits only
            time.sleep(1.0)
        logger.error("still here {} s after the drain: a thread hangs; leaving it behind", seconds)
        os._exit(1)

    threading.Thread(target=leave, daemon=True, name="exit-anyway").start()
