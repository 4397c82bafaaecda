"""What computes a model's steps, once it is put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmserve.engines.accelerator import answers
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.step_adapters import StepAdapters
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.step_result import StepResult
from llmserve.engines.failure import as_failure, release_memory
from llmserve.engines.frames import forget_frames
from llmserve.errors import LLMServeError


@dataclass(frozen=True, slots=True)
class ModelComputation:
    """A `Computation` by a model and its KV cache.

    Attributes:
        description: what computes the steps, and what was rejected for which reason.
        arithmetic: how the size of the cache was found.
        tokens_per_step: the largest step that there is memory for.
        adapters: what attaches them to the model.
        step_bytes: of a GPU's memory that such a step takes while it is computed.
        replayed_tokens: of prompts, in the largest step of a CUDA graph with any; else 0.
    """

    cache: KVCache
    description: str
    arithmetic: str
    tokens_per_step: int
    runner: Runner
    close_forward: Callable[[], None]
    adapters: StepAdapters
    step_bytes: int = 0
    replayed_tokens: int = 0

    @property
    def num_states(self) -> int | None:
        """Slots for recurrent states; `None` if the model has none."""
        return None if self.cache.states is None else self.cache.states.num_slots

    @property
    def state_bytes(self) -> int:
        """Of the cache, what is for recurrent states."""
        return 0 if self.cache.states is None else self.cache.states.num_bytes

    def most_running(self, asked: int) -> int:
        """How many requests may run at once, of so many."""
        return asked if self.cache.states is None else min(asked, self.cache.states.max_rows)

    def prepare(self, plan: StepPlan) -> Batch:
        """The plan as tensors."""
        return self.runner.prepare(plan)

    def compute(self, batch: Batch, rows: list[RowState]) -> StepResult:
        """The sampled positions' tokens, whose sampling states are `rows`, and the scores."""
        return self.runner.compute(batch, rows)

    def diagnose(self, error: Exception) -> LLMServeError:
        """Our error; what the error's frames hold and the device's unused memory are released."""
        failure = as_failure(error)
        forget_frames(error)
        release_memory()
        return failure

    def is_lost(self) -> bool:
        """Whether the device does not compute any more."""
        return not answers(self.runner.device)

    def close(self) -> None:
        """Release the model, which attends in its former way again, where it still can."""
        self.runner.close()
        self.close_forward()
