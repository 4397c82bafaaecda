"""What attaches adapters to a model that computes step by step."""

from __future__ import annotations

from typing import Any, Protocol

from llmserve.engines.adapters.adapter import Adapter
from llmserve.engines.adapters.pace import Pause


class StepAdapters(Protocol):
    """`prepare` is for any thread; the rest belongs to the thread that computes, between two
    steps."""

    def prepare(self, adapter: Adapter, pause: Pause) -> Any:
        """The adapter as steps take it; has its `num_bytes`. Blocks, pausing often."""
        ...

    def attach(self, adapter_id: int, prepared: Any) -> None:
        """Segments of batches may have it from now on."""
        ...

    def detach(self, adapter_id: int) -> None:
        """None has it any more. Harmless if it is not attached."""
        ...
