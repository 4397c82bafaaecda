"""The fixed memory that a captured decode step reads its batch from.

bucket of 4, batch of 3        row   0      1      2     3 (padded)
                     token_ids     311     17    902    any
                         slots    1040    208     33     -1    nothing is written to the cache
               context_lengths      41      1    130      0    nothing is read from it
          sources, targets of states                           that nobody else has
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.splits import LONGEST_PART
from llmserve.engines.batching.compute.state_pool import PADDING, ZERO
from llmserve.engines.batching.compute.state_rows import RowGroup, StateRows

NO_SLOT: Final = -1
CONTEXT_STEP: Final = 4
"""A graph splits contexts into as many parts as its longest needs; each part is work for every row,
however short."""


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """What a graph is captured for: up to `rows` rows of up to `max_context` tokens."""

    rows: int
    max_context: int


def buckets(max_rows: int, max_context: int) -> list[Bucket]:
    """The graphs to capture, few, but close enough that padding costs little: for 1, 2 and 4 rows,
    every 8th number, every 16th beyond 256, up to and including `max_rows`.

    Contexts beyond `LONGEST_PART` are split into more parts, so batches with one get graphs of
    their own: for each power of two of rows, and contexts `CONTEXT_STEP` times as long each time.
    """
    rows = [1, 2, 4, *range(8, 257, 8), *range(272, max_rows + 1, 16)]
    powers = [1 << power for power in range(max_rows.bit_length())]
    context = min(max_context, LONGEST_PART)
    made = [Bucket(count, context) for count in _up_to(rows, max_rows)]
    while context < max_context:
        context = min(max_context, context * CONTEXT_STEP)
        made += [Bucket(count, context) for count in _up_to(powers, max_rows)]
    return sorted(made)


def _up_to(rows: list[int], most: int) -> list[int]:
    return [*(count for count in rows if count < most), most]


class DecodeBuffers:
    """Room for decode batches of up to as many rows as the largest bucket has, of up to
    `max_blocks` blocks.

    Owned by the thread that runs the model.
    """

    def __init__(
        self,
        buckets: list[Bucket],
        max_blocks: int,
        device: torch.device,
        *,
        has_states: bool = False,
    ) -> None:
        self.buckets = buckets
        self._has_states = has_states
        max_rows = max(bucket.rows for bucket in buckets)
        self._token_ids = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._positions = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._slots = torch.full((max_rows,), NO_SLOT, dtype=torch.int64, device=device)
        self._query_starts = torch.arange(max_rows + 1, dtype=torch.int32, device=device)
        self._context_lengths = torch.zeros(max_rows, dtype=torch.int32, device=device)
        self._block_tables = torch.zeros((max_rows, max_blocks), dtype=torch.int32, device=device)
        self._sampled = torch.arange(max_rows, dtype=torch.int64, device=device)
        self._sources = torch.full((max_rows,), ZERO, dtype=torch.int64, device=device)
        self._targets = torch.full((max_rows,), PADDING, dtype=torch.int64, device=device)

    def find(self, batch: Batch) -> Bucket | None:
        """The smallest bucket into which a batch fits whose every row decodes one token, none of
        them scored, none the first of a sequence with a state."""
        rows, width = batch.block_tables.shape
        if (
            batch.targets is not None
            or (batch.states is not None and batch.states.has_fresh)
            or not batch.num_decode == rows == batch.sampled.shape[0]
            or rows > self._token_ids.shape[0]
            or width > self._block_tables.shape[1]
        ):
            return None
        place = bisect_left(self.buckets, Bucket(rows, batch.max_context))
        fitting = (b for b in self.buckets[place:] if b.max_context >= batch.max_context)
        return next(fitting, None)

    def view(self, bucket: Bucket) -> Batch:
        """The batch with which a bucket's graph is captured: slices of these buffers."""
        rows = bucket.rows
        return Batch(
            token_ids=self._token_ids[:rows],
            positions=self._positions[:rows],
            slots=self._slots[:rows],
            query_starts=self._query_starts[: rows + 1],
            context_lengths=self._context_lengths[:rows],
            block_tables=self._block_tables[:rows],
            sampled=self._sampled[:rows],
            num_decode=rows,
            max_query=1,
            max_context=bucket.max_context,
            prefill_context=0,
            states=self._states(rows) if self._has_states else None,
        )

    def load(self, batch: Batch, bucket: Bucket) -> None:
        """Copy a batch for which `find` gave the bucket, and pad it."""
        rows, width = batch.block_tables.shape
        self._token_ids[:rows].copy_(batch.token_ids, non_blocking=True)
        self._positions[:rows].copy_(batch.positions, non_blocking=True)
        self._slots[:rows].copy_(batch.slots, non_blocking=True)
        self._context_lengths[:rows].copy_(batch.context_lengths, non_blocking=True)
        self._block_tables[:rows, :width].copy_(batch.block_tables, non_blocking=True)
        if batch.states is not None:
            self._sources[:rows].copy_(batch.states.sources, non_blocking=True)
            self._targets[:rows].copy_(batch.states.targets, non_blocking=True)
        self._pad(rows, bucket.rows)

    def clear(self, bucket: Bucket) -> None:
        """Turn all of it into padding."""
        self._pad(0, bucket.rows)

    def _pad(self, start: int, end: int) -> None:
        """Turn these rows into padding. Their old token, position and blocks are harmless."""
        if start < end:
            self._slots[start:end].fill_(NO_SLOT)
            self._sources[start:end].fill_(ZERO)
            self._targets[start:end].fill_(PADDING)
            self._context_lengths[start:end].fill_(0)

    def _states(self, rows: int) -> StateRows:
        group = RowGroup(0, 0, rows, length=1, is_fresh=False)
        return StateRows(self._sources[:rows], self._targets[:rows], (group,))
