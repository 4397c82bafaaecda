"""One step's input as tensors: the tokens of all slices, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Self

import numpy as np
import torch

from llmserve.engines.adapters.segment import NO_ADAPTER, Segment
from llmserve.engines.batching.compute.scoring import Targets
from llmserve.engines.batching.compute.state_pool import StatePool
from llmserve.engines.batching.compute.state_rows import StateRows
from llmserve.engines.batching.schedule.plan import StepPlan


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens of all slices, flat, and one row per slice; decode rows come first.

    Attributes:
        token_ids: (num_tokens,) int64.
        positions: (num_tokens,) int64.
        slots: (num_tokens,) int64, block × block_size + offset where a token's keys and values go.
        query_starts: (num_rows + 1,) int32, where each row's tokens begin among all.
        context_lengths: (num_rows,) int32, tokens of each row in the cache after this step.
        block_tables: (num_rows, max_blocks) int32, padded with 0.
        sampled: (num_sampled,) int64, indices of the tokens whose logits are needed: first those
            that choose a next token, then those that score a prompt's token.
        num_decode: how many rows, the first ones, have one token.
        max_query: tokens of the longest row.
        max_context: the largest context length.
        prefill_context: context lengths of the rows past `num_decode`, added up; `None` where they
            are only known when the batch is computed, as in a graph.
        targets: what is scored, if anything.
        states: where the rows find their recurrent states, if the model has any.
        segments: which tokens have which adapter, in order; others have none.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    query_starts: torch.Tensor
    context_lengths: torch.Tensor
    block_tables: torch.Tensor
    sampled: torch.Tensor
    num_decode: int
    max_query: int
    max_context: int
    prefill_context: int | None
    targets: Targets | None = None
    segments: tuple[Segment, ...] = ()
    states: StateRows | None = None

    @classmethod
    def from_plan(
        cls,
        plan: StepPlan,
        block_size: int,
        device: torch.device,
        states: StatePool | None = None,
    ) -> Self:
        """The tensors of a plan, which has at least one slice."""
        num_tokens, rows = plan.num_tokens, len(plan.slices)
        contexts = [part.end for part in plan.slices]
        # Tables and slots are arrays from the start: in lists, one long context among many short
        # ones would make millions of Python numbers.
        block_tables = np.zeros((rows, -(-max(contexts) // block_size)), np.int32)
        slots = np.empty(num_tokens, np.int64)
        token_ids: list[int] = []
        positions: list[int] = []
        query_starts = [0]
        sampled: list[int] = []
        scored: list[int] = []
        for row, part in enumerate(plan.slices):
            used = -(-part.end // block_size)
            block_tables[row, :used] = part.sequence.blocks[:used]
            begin = len(token_ids)
            if part.length == 1:
                block, offset = divmod(part.start, block_size)
                slots[begin] = part.sequence.blocks[block] * block_size + offset
            else:
                places = np.arange(part.start, part.end)
                blocks = block_tables[row, places // block_size].astype(np.int64)
                slots[begin : begin + part.length] = blocks * block_size + places % block_size
            token_ids += part.sequence.token_ids[part.start : part.end]
            positions += range(part.start, part.end)
            query_starts.append(len(token_ids))
            if part.is_sampled:
                sampled.append(len(token_ids) - 1)
            scored += (begin + position - part.start for position in part.scored)

        def long(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int64).to(device, non_blocking=True)

        def short(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int32).to(device, non_blocking=True)

        return cls(
            token_ids=long(token_ids),
            positions=long(positions),
            slots=torch.from_numpy(slots).to(device, non_blocking=True),
            query_starts=short(query_starts),
            context_lengths=short(contexts),
            block_tables=torch.from_numpy(block_tables).to(device, non_blocking=True),
            sampled=long(sampled + scored),
            num_decode=sum(1 for part in plan.slices if part.length == 1),
            max_query=max(part.length for part in plan.slices),
            max_context=max(contexts),
            prefill_context=sum(part.end for part in plan.slices if part.length > 1),
            targets=Targets.of(plan.slices, device),
            segments=tuple(_segments(plan)),
            states=None if states is None else states.rows(plan),
        )


def _segments(plan: StepPlan) -> Iterator[Segment]:
    start = 0
    for adapter_id, slices in groupby(plan.slices, lambda part: part.sequence.adapter_id):
        stop = start + sum(part.length for part in slices)
        if adapter_id != NO_ADAPTER:
            yield Segment(adapter_id, start, stop)
        start = stop
