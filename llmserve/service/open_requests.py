"""The requests that hold places, so that all of them can be waited for and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from llmserve.errors import LLMServeError
from llmserve.registry.served import ServedModel
from llmserve.timer import awake_timeout


class OpenRequest(Protocol):
    """A generation, or what a model encodes."""

    @property
    def served(self) -> ServedModel:
        """Its model."""
        ...

    @property
    def is_background(self) -> bool:
        """Whether it is background work, which may be ended so that others run."""
        ...

    @property
    def silent_seconds(self) -> float:
        """Since the running job's last sign of life; 0 when it does not run."""
        ...

    def fail(self, error: LLMServeError) -> None:
        """End it now with an error."""
        ...


class OpenRequests:
    """Owned by the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: set[OpenRequest] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, request: OpenRequest) -> None:
        """It holds a place from now on."""
        self._open.add(request)
        self._all_closed.clear()

    def discard(self, request: OpenRequest) -> None:
        """Whoever waited for it has its end; harmless if it was never added."""
        self._open.discard(request)
        if not self._open:
            self._all_closed.set()

    async def closed(self, timeout_seconds: float) -> bool:
        """Wait until none is open; whether that was in time."""
        try:
            async with awake_timeout(timeout_seconds, self._clock):
                await self._all_closed.wait()
        except TimeoutError:
            return False
        return True

    def fail(self, error: LLMServeError, model: ServedModel | None = None) -> None:
        """End every one (of a model) with this error."""
        for request in list(self._open):
            if model is None or request.served is model:
                request.fail(error)

    def fail_background(self, error: LLMServeError, model: ServedModel | None = None) -> None:
        """End all background work (of a model) with this error."""
        for request in list(self._open):
            if request.is_background and (model is None or request.served is model):
                request.fail(error)

    def fail_silent(self, error: LLMServeError, model: ServedModel, seconds: float) -> int:
        """End those that run and gave no sign of life for so long; returns how many."""
        silent = [r for r in self._open if r.served is model and r.silent_seconds > seconds]
        for request in silent:
            request.fail(error)
        return len(silent)
