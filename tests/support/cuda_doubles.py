"""What stands in for a GPU's parts on a machine that has none. (Not a test.)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.memory_share import Occupancy


class SkippingCache(KVCache):
    """Leaves negative slots alone, as the kernel does, without looking at them on the host."""

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        for cached, new in ((self.keys[layer], keys), (self.values[layer], values)):
            cells = cached.transpose(1, 2).flatten(0, 1)  # (slots, kv_heads, head_dim)
            spare = torch.cat((cells, cells[:1]))
            spare[torch.where(slots < 0, cells.shape[0], slots)] = new
            cached.transpose(1, 2).copy_(spare[:-1].view_as(cached.transpose(1, 2)))


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


@dataclass
class FakeMemory:
    """A device with so many bytes free; steps take what `step_bytes` says of their tokens, and
    graphs what `graph_bytes` has left to say."""

    free_bytes: int = 10**9
    step_bytes: Callable[[int], int] = lambda tokens: 1000 * tokens
    graph_bytes: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def occupancy(self) -> Occupancy:
        return Occupancy(self.free_bytes, self.free_bytes, 0)

    def peak_of(self, work: Callable[[], object]) -> int:
        count = len(self.steps)
        work()
        if len(self.steps) == count:  # a real step, of a model
            return 12345
        return self.step_bytes(self.steps[-1])

    def step(self, tokens: int) -> None:
        """Stands in for `LargestStep.run`."""
        self.steps.append(tokens)
        if self.step_bytes(tokens) > self.free_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory")
