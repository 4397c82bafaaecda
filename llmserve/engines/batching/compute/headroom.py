"""How much of a GPU's memory steps need besides weights and cache, found by running the largest."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

import torch
from loguru import logger

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.cuda.gather import most_gathered
from llmserve.engines.batching.compute.cuda.graphs import GraphedForward
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.grouped_attention import rows_at_once
from llmserve.engines.batching.compute.kv_cache import NO_ATTENTION, KVCache, LayerShape
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.scoring import most_scored
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.scoring import Scoring
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.failure import release_memory
from llmserve.engines.frames import forget_frames
from llmserve.engines.memory_share import Occupancy
from llmserve.engines.weights.loading import LoadedModel

DEAREST: Final = SamplingParams(
    temperature=1e6, top_p=0.999, repetition_penalty=1.1, frequency_penalty=0.1, logprobs=20
)
"""Parameters with which the sampler needs most memory: it copies all logits, and sorts them, as no
small number of tokens makes up the share."""


DEAREST_TOP: Final = 20
"""Likeliest tokens in each place of a prompt that is scored."""


class Memory(Protocol):
    """A device's memory."""

    def occupancy(self) -> Occupancy:
        """Now; releases what torch keeps for later."""
        ...

    def peak_of(self, work: Callable[[], object]) -> int:
        """Bytes that torch took from the device during the work, beyond what it had."""
        ...


class DeviceMemory:
    """A GPU's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def occupancy(self) -> Occupancy:
        torch.cuda.synchronize(self._device)
        release_memory()
        free, total = torch.cuda.mem_get_info(self._device)
        return Occupancy(total, free, torch.cuda.memory_reserved(self._device))

    def peak_of(self, work: Callable[[], object]) -> int:
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
        tokens_per_step: the largest step for which there is room.
        step_bytes: what that step takes while it is computed.
        graph_bytes: of all CUDA graphs; `None` if the model cannot be captured.
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
    """As many rows as may run, some of them pieces of prompts, over a cache of a single block.

    Contexts are as long as attention may copy, those of the first decode rows as long as the model
    allows. `is_plain`: attention in torch, which copies any context, row after row.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        layers: Collection[LayerShape],
        forward: Forward,
        cache: KVCache,
        max_running: int,
        *,
        is_plain: bool = False,
    ) -> None:
        self._loaded = loaded
        self._block_size = cache.block_size
        self._max_running = max_running
        self._max_context = context = loaded.max_context
        dtype = loaded.model.dtype
        self._states = cache.states
        attending = [(i, layer) for i, layer in enumerate(layers) if layer != NO_ATTENTION]
        if is_plain:
            self._most_copied = context
            at_once = (rows_at_once(cache, i, context) for i, _ in attending)
            self._long_rows = max(at_once, default=1)
        else:
            copied = (most_gathered(layer, dtype) for _, layer in attending)
            self._most_copied = min(copied, default=context)
            self._long_rows = 1
        self._runner = Runner(forward, cache, loaded.device)

    def run(self, num_tokens: int) -> None:
        """Compute such a step of so many tokens, or as many as fit into the rows, and sample in the
        way that needs most memory."""
        plan = self._plan(num_tokens)
        vocab = self._loaded.vocab
        sampling = [
            RowState(DEAREST, part.sequence.token_ids[:1], (), vocab, self._loaded.device)
            for part in plan.slices
        ]
        if self._states is not None:
            # As if every row had begun before, so that it reads a state.
            begun = (replace(part, start=0, length=1) for part in plan.slices)
            self._states.commit(self._states.rows(StepPlan(tuple(begun))))
        self._runner.compute(self._runner.prepare(plan), sampling)

    def _plan(self, num_tokens: int) -> StepPlan:
        longest = min(self._max_context, self._most_copied)
        rows = min(self._max_running, num_tokens)
        num_tokens = min(num_tokens, rows * longest)
        # Enough prompts for the tokens, or to fill what may be copied; each has two tokens or more.
        wanted = max(-(-(num_tokens - rows) // max(1, longest - 1)), self._most_copied // longest)
        prompts = min(rows, num_tokens - rows, wanted)
        decode = rows - prompts
        left = most_scored(self._loaded.vocab, is_on_gpu=True)
        slices = [
            self._slice(self._max_context if row < self._long_rows else 1, 1)
            for row in range(decode)
        ]
        for number in range(prompts):
            length = (num_tokens - decode + number) // prompts
            context = min(longest, max(length, self._most_copied // prompts))
            scored = min(left, length - 1)
            left -= scored
            slices.append(self._slice(context, length, scored))
        for slot, part in enumerate(slices):
            part.sequence.state = slot
        return StepPlan(tuple(slices))

    def _slice(self, context: int, length: int, scored: int = 0) -> Slice:
        blocks = [0] * -(-context // self._block_size)
        scoring = Scoring(DEAREST_TOP, context - 1) if scored else None
        sequence = Sequence([1] * context, scoring=scoring, blocks=blocks)
        start = context - length
        return Slice(sequence, start, length, True, range(start, start + scored))


def measure_step(
    memory: Memory,
    step: Callable[[int], None],
    *,
    tokens_per_step: int,
    least_tokens: int,
    most_bytes: int,
) -> tuple[int, int]:
    """Run `step` with as many tokens as take no more than `most_bytes`: halves of
    `tokens_per_step`, but no fewer than `least_tokens`. Returns the tokens, and the bytes that such
    a step takes.

    Raises:
        OutOfMemoryError: there is no room for a step of `least_tokens`.
    """
    while True:
        try:
            step_bytes = memory.peak_of(partial(step, tokens_per_step))
            is_enough = step_bytes <= most_bytes
        except torch.OutOfMemoryError:
            if tokens_per_step <= least_tokens:
                raise
            is_enough = False
        if is_enough or tokens_per_step <= least_tokens:
            return tokens_per_step, step_bytes
        logger.warning("a step of {:,} tokens leaves too little memory: halved", tokens_per_step)
        tokens_per_step = max(least_tokens, tokens_per_step // 2)


def measure_graphs(memory: Memory, build: Callable[[], GraphedForward]) -> int | str:
    """Bytes of all CUDA graphs and of the buffers that they read: the first one allocates the pool
    that all share, each further one takes about the same. Or the reason why there can be none,
    found without recording if possible, as a recording that fails may leave damage behind."""
    try:
        before = memory.occupancy().free
        graphed = build()
        buffers = max(0, before - memory.occupancy().free)
        graphed.check_capturable()
        before = memory.occupancy().free
        graphed.capture_next()
        first = max(0, before - memory.occupancy().free)
        if graphed.num_buckets == 1:
            return buffers + first
        graphed.capture_next()
        each = max(0, before - memory.occupancy().free - first)
    # The model's code may raise anything while it is watched or recorded.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        forget_frames(error)
        return reason
    return buffers + first + each * (graphed.num_buckets - 1)
