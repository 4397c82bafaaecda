"""What a model keeps of each sequence: keys and values of every token, and recurrent states."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.batching.compute.state_pool import StatePool, StateShape


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Attributes:
    layers: what each layer stores for each token, `NO_ATTENTION` for one that does not attend.
    states: what is kept for each sequence however long it is; most models have none.
    """

    layers: tuple[LayerShape, ...]
    states: tuple[StateShape, ...] = ()

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        """Of all layers; 0 if none attends."""
        return sum(layer.bytes_per_token(dtype) for layer in self.layers)

    @property
    def bytes_per_state(self) -> int:
        """Of one place in a `StatePool`."""
        return sum(state.num_bytes for state in self.states)

    def pool(self, num_slots: int, max_rows: int, device: torch.device) -> StatePool | None:
        """A pool of such states; `None` if there are none."""
        if not self.states:
            return None
        return StatePool(self.states, num_slots=num_slots, max_rows=max_rows, device=device)
