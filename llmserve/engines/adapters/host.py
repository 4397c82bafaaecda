"""What computes with adapters, as seen from whoever loads and unloads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llmserve.engines.adapters.adapter import Adapter, Layers
from llmserve.engines.adapters.pace import Pause


class AdapterHost(Protocol):
    """An engine's model. `layers` and `prepare` are for any thread, the rest is called on the event
    loop."""

    def layers(self) -> Layers:
        """What adapters may change."""
        ...

    def prepare(self, adapter: Adapter, pause: Pause) -> Any:
        """The adapter as it is computed with; has its `num_bytes`. Blocks, pausing often; touches
        nothing that runs."""
        ...

    async def attach(self, adapter_id: int, prepared: Any) -> None:
        """From now on jobs may have this adapter.

        Raises:
            LLMServeError: there is no room for it, or the model was unloaded.
        """
        ...

    async def detach(self, adapter_id: int) -> None:
        """No job has it any more; its memory is free. Harmless if it is not attached."""
        ...
