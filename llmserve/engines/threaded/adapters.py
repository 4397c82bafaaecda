"""Adapters of a model that runs on several threads at once: each thread has one, or none."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from llmserve.engines.adapters.adapter import Adapter, Layers
from llmserve.engines.adapters.hooks import HookedAdapters, Prepared, linear_layers
from llmserve.engines.adapters.pace import Pause
from llmserve.engines.adapters.segment import NO_ADAPTER, Segment


class ThreadAdapters:
    """Implements `AdapterHost`."""

    def __init__(self, model: Any) -> None:
        self._layers = linear_layers(model)
        self._chosen = threading.local()
        self._hooked = HookedAdapters(model, self._segments)

    def layers(self) -> Layers:
        return self._layers

    def prepare(self, adapter: Adapter, pause: Pause) -> Prepared:
        return self._hooked.prepare(adapter, pause)

    async def attach(self, adapter_id: int, prepared: Prepared) -> None:
        self._hooked.attach(adapter_id, prepared)

    async def detach(self, adapter_id: int) -> None:
        self._hooked.detach(adapter_id)

    @contextlib.contextmanager
    def active(self, adapter_id: int) -> Iterator[None]:
        """What this thread computes meanwhile has the adapter."""
        if adapter_id != NO_ADAPTER:
            self._chosen.segments = (Segment(adapter_id, 0, None),)
        try:
            yield
        finally:
            self._chosen.segments = ()

    def _segments(self) -> tuple[Segment, ...]:
        return getattr(self._chosen, "segments", ())
