"""What steps need of a GPU's memory beside weights and cache, found by running the largest ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import torch
from loguru import logger

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.cuda.gather import most_gathered
from llmserve.engines.batching.compute.cuda.graphs import GraphedForward
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.row_sampling import RowSampling
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence as TokenSequence
from llmserve.engines.failure import release_memory
from llmserve.engines.frames import forget_frames
from llmserve.engines.loading import LoadedModel

DEAREST: Final = SamplingParams(
    temperature=1.0, top_p=0.999, repetition_penalty=1.1, frequency_penalty=0.1, logprobs=20
)
"""What asks the sampler for most memory: a sort of all logits, and a copy of them."""


class Memory(Protocol):
    """A device's memory."""

    def free(self) -> int:
        """Bytes that could be allocated, what torch keeps for later included."""
        ...

    def peak_of(self, work: Callable[[], object]) -> int:
        """Bytes that torch took from the device while it worked, over what it had."""
        ...


class DeviceMemory:
    """A GPU's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free(self) -> int:
        """See `Memory`."""
        torch.cuda.synchronize(self._device)
        release_memory()
        return torch.cuda.mem_get_info(self._device)[0]

    def peak_of(self, work: Callable[[], object]) -> int:
        """See `Memory`."""
        release_memory()
        before = torch.cuda.memory_reserved(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return max(0, torch.cuda.max_memory_reserved(self._device) - before)


@dataclass(frozen=True, slots=True)
class Headroom:
    """Bytes that must stay free.

    Attributes:
        tokens_per_step: the largest step that there is room for.
        step_bytes: what it takes while it is computed.
        graph_bytes: of all CUDA graphs; `None` where the model cannot be captured.
    """

    tokens_per_step: int
    step_bytes: int
    graph_bytes: int | None

    @property
    def num_bytes(self) -> int:
        """Together."""
        return self.step_bytes + (self.graph_bytes or 0)

    def __str__(self) -> str:
        return (
            f"{self.step_bytes:,} for steps of {self.tokens_per_step:,} tokens - "
            f"{self.graph_bytes or 0:,} for CUDA graphs"
        )


class LargestStep:
    """As many rows as may run, one of them a prompt's last piece, over a cache of a single block.

    Its context is as long as attention may copy one.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        layers: Sequence[LayerShape],
        forward: Forward,
        cache: KVCache,
        max_running: int,
    ) -> None:
        self._loaded = loaded
        self._block_size = cache.block_size
        self._max_running = max_running
        dtype = loaded.model.dtype
        self._most_context = min(
            loaded.max_context, *(most_gathered(layer, dtype) for layer in layers)
        )
        self._runner = Runner(forward, cache, loaded.device)

    def run(self, num_tokens: int) -> None:
        """Compute such a step of so many tokens, and choose its tokens in the dearest way."""
        rows = min(self._max_running, num_tokens)
        longest = min(self._most_context, max(1, num_tokens - rows + 1))
        slices = [self._slice(1, 1)] * (rows - 1)
        # Where a context is shorter than the step, several prompts fill it.
        left = num_tokens - len(slices)
        while left > 0:
            slices.append(self._slice(self._most_context, min(longest, left)))
            left -= min(longest, left)
        plan = StepPlan(tuple(sorted(slices, key=lambda part: part.length > 1)))
        vocab = self._loaded.model.get_input_embeddings().num_embeddings
        sampling = [
            RowSampling(DEAREST, part.sequence.token_ids[:1], (), vocab, self._loaded.device)
            for part in plan.slices
        ]
        self._runner.run(self._runner.prepare(plan), sampling)

    def _slice(self, context: int, length: int) -> Slice:
        blocks = [0] * -(-context // self._block_size)
        sequence = TokenSequence([1] * context, context, blocks=blocks)
        return Slice(sequence, context - length, length, is_sampled=True)


def measure_step(
    memory: Memory,
    step: Callable[[int], None],
    *,
    tokens_per_step: int,
    least_tokens: int,
    least_room: int,
) -> tuple[int, int]:
    """Run `step` with as many tokens as leave `least_room` bytes: halves of `tokens_per_step`, but
    no fewer than `least_tokens`. Returns the tokens, and the bytes that such a step takes.

    Raises:
        OutOfMemoryError: there is no room for a step of `least_tokens`.
    """
    while True:
        try:
            step_bytes = memory.peak_of(partial(step, tokens_per_step))
            is_enough = memory.free() - step_bytes >= least_room
        except torch.OutOfMemoryError:
            if tokens_per_step <= least_tokens:
                raise
            is_enough = False
        if is_enough or tokens_per_step <= least_tokens:
            return tokens_per_step, step_bytes
        logger.warning("a step of {:,} tokens leaves too little memory: halved", tokens_per_step)
        tokens_per_step = max(least_tokens, tokens_per_step // 2)


def measure_graphs(memory: Memory, build: Callable[[], GraphedForward]) -> int | str:
    """Bytes of all CUDA graphs and of what they read: the first brings the pool that all share,
    each one more about the same. Or why there can be none, which is found without recording
    anything where that is possible, as a recording that fails may leave its marks."""
    try:
        before = memory.free()
        graphed = build()
        buffers = max(0, before - memory.free())
        graphed.check_capturable()
        before = memory.free()
        graphed.capture_next()
        first = max(0, before - memory.free())
        if graphed.num_buckets == 1:
            return buffers + first
        graphed.capture_next()
        each = max(0, before - memory.free() - first)
    # The model's code may raise anything where it is watched or recorded.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        forget_frames(error)
        return reason
    return buffers + first + each * (graphed.num_buckets - 1)
