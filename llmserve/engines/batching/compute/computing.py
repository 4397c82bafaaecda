"""What computes a model's steps, once it is put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmserve.domain import LoadProgress
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.schedule.plan import StepPlan

OnProgress = Callable[[LoadProgress], None]


@dataclass(frozen=True, slots=True)
class Computing:
    """A model's forward and its cache.

    Attributes:
        description: by what the steps are computed, and what was refused for which reason.
        arithmetic: how the size of the cache came about.
        tokens_per_step: the largest step that there is memory for.
        step_bytes: of a GPU's memory that such a step takes while it is computed.
    """

    cache: KVCache
    description: str
    arithmetic: str
    tokens_per_step: int
    runner: Runner
    close_forward: Callable[[], None]
    step_bytes: int = 0

    def prepare(self, plan: StepPlan) -> Batch:
        """The plan as tensors; the part of a step that needs the GIL."""
        return self.runner.prepare(plan)

    def run(self, batch: Batch, rows: Sequence[Any]) -> Sequence[Any]:
        """The sampled positions' tokens; `rows` are their sampling states."""
        return self.runner.run(batch, rows)

    def close(self) -> None:
        """Let go; the model attends in its former way again, where it still can."""
        self.close_forward()
