"""One step: a plan in, each sampled row's next token out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.sampling.masks import MaskThreads
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.sampling.sampler import sample
from llmserve.engines.batching.compute.sampling.torch_sampler import SampleTokens, sample_tokens
from llmserve.engines.batching.compute.scoring import score
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.step_result import StepResult


class Runner:
    """Owned by the step loop's thread."""

    def __init__(
        self,
        forward: Forward,
        cache: KVCache,
        device: torch.device,
        sample_tokens: SampleTokens = sample_tokens,
    ) -> None:
        self.forward = forward
        self.device = device
        self._sample_tokens = sample_tokens
        self._cache = cache
        self._mask_threads = MaskThreads(self.device)

    def prepare(self, plan: StepPlan) -> Batch:
        """The plan as tensors; the part of a step that is Python."""
        cache = self._cache
        return Batch.from_plan(plan, cache.block_size, self.device, cache.states)

    @torch.inference_mode()
    def compute(self, batch: Batch, rows: Sequence[RowState]) -> StepResult:
        """The tokens of the batch's sampled positions, in their order; `rows` belong to these. And
        the scores of its targets.

        Computing a batch that failed again is harmless: the same keys and values go to the same
        places, and new states replace those they come from only now.
        """
        masks = self._mask_threads.begin(rows)
        try:
            logits = self.forward(batch, self._cache)
        finally:
            if masks is not None:  # after a failure, too: its threads use what the rows own
                masks.settle()
        # First, as the sampler may overwrite the logits, and nothing may fail after it.
        scores = [] if batch.targets is None else score(logits[len(rows) :], batch.targets)
        logits = logits[: len(rows)]
        sampled = sample(logits, rows, self._sample_tokens, masks) if rows else []
        self._cache.commit(batch.states)
        return StepResult(sampled, scores)

    def close(self) -> None:
        """End the threads."""
        self._mask_threads.close()
