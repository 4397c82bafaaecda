"""The fixed memory that a captured decode step reads its batch from.

bucket of 4, batch of 3        row   0      1      2     3 (padded)
                     token_ids     311     17    902    any
                         slots    1040    208     33     -1    nothing is written to the cache
               context_lengths      41      1    130      0    nothing is read from it
"""

from __future__ import annotations

from typing import Final

import torch

from llmserve.engines.batching.compute.batch import Batch

NO_SLOT: Final = -1


def bucket_sizes(max_rows: int) -> tuple[int, ...]:
    """Rows of the graphs to capture: 1, 2, 4, then every 8th, every 16th past 256, up to and
    including `max_rows`: few enough to capture, close enough that padding costs little."""
    sizes = [1, 2, 4, *range(8, 257, 8), *range(272, max_rows + 1, 16)]
    return (*(size for size in sizes if size < max_rows), max_rows)


class DecodeBuffers:
    """Room for decode batches of up to `max_rows` rows of up to `max_blocks` blocks.

    Owned by the thread that runs the model.
    """

    def __init__(
        self, max_rows: int, max_blocks: int, block_size: int, device: torch.device
    ) -> None:
        self._max_context = max_blocks * block_size
        self._token_ids = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._positions = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._slots = torch.full((max_rows,), NO_SLOT, dtype=torch.int64, device=device)
        self._query_starts = torch.arange(max_rows + 1, dtype=torch.int32, device=device)
        self._context_lengths = torch.zeros(max_rows, dtype=torch.int32, device=device)
        self._block_tables = torch.zeros((max_rows, max_blocks), dtype=torch.int32, device=device)
        self._sampled = torch.arange(max_rows, dtype=torch.int64, device=device)

    def holds(self, batch: Batch) -> bool:
        """Whether the batch is one step of decode for each of its rows, and fits."""
        rows, width = batch.block_tables.shape
        return (
            batch.num_decode == rows == batch.sampled.shape[0]
            and rows <= self._token_ids.shape[0]
            and width <= self._block_tables.shape[1]
        )

    def view(self, bucket: int) -> Batch:
        """The batch that a graph of `bucket` rows is captured with: these very buffers."""
        return Batch(
            token_ids=self._token_ids[:bucket],
            positions=self._positions[:bucket],
            slots=self._slots[:bucket],
            query_starts=self._query_starts[: bucket + 1],
            context_lengths=self._context_lengths[:bucket],
            block_tables=self._block_tables[:bucket],
            sampled=self._sampled[:bucket],
            num_decode=bucket,
            max_query=1,
            max_context=self._max_context,
            prefill_context=0,
        )

    def load(self, batch: Batch, bucket: int) -> None:
        """Put a batch that `holds` into the first `bucket` rows; the rest of these is padding."""
        rows, width = batch.block_tables.shape
        self._token_ids[:rows].copy_(batch.token_ids, non_blocking=True)
        self._positions[:rows].copy_(batch.positions, non_blocking=True)
        self._slots[:rows].copy_(batch.slots, non_blocking=True)
        self._context_lengths[:rows].copy_(batch.context_lengths, non_blocking=True)
        self._block_tables[:rows, :width].copy_(batch.block_tables, non_blocking=True)
        self.pad(rows, bucket)

    def pad(self, start: int, bucket: int) -> None:
        """Make rows from `start` on padding. Their old token, position and blocks are harmless."""
        if start < bucket:
            self._slots[start:bucket].fill_(NO_SLOT)
            self._context_lengths[start:bucket].fill_(0)
