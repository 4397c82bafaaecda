"""What stands in for a GPU's parts on a machine that has none. (Not a test.)"""

from __future__ import annotations

from collections.abc import Callable

import torch

from llmserve.engines.batching.compute.kv_cache import KVCache


class SkippingCache(KVCache):
    """Leaves negative slots alone, as the kernel does."""

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        kept = slots >= 0
        super().write(layer, slots[kept], keys[kept], values[kept])


class Repeater:
    """Runs the work again where a graph would be replayed."""

    def __init__(self) -> None:
        self.replayed = 0

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        work()

        def replay() -> None:
            self.replayed += 1
            work()

        return replay
