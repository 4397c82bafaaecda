"""The fixed memory that a captured step with prompts reads its batch from: padded decode rows, like
those of `decode_buffers`, then room for pieces of a few prompts.

bucket of 4 decode rows and 64 prompt tokens, batch of 3 and of two prompts of 20 and 30

          row   0    1    2    3 (padded)   4         5         6 ... 19    20 (padded)
       tokens   1    1    1    1            20        30        none        14
context length  41   1    130  0            20        1054      0           0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.decode_buffers import CONTEXT_STEP, NO_SLOT
from llmserve.engines.batching.compute.cuda.splits import LONGEST_PART

PROMPT_TOKENS: Final = (64, 256, 512, 1024, 2048)
"""Of the graphs, all prompts together. Launching a model's kernels one by one takes longer than to
compute so few tokens, the padding included; for more it hardly matters."""
DECODE_ROWS: Final = (32,)
"""Of the graphs, beside the most that may run. Padded decode rows cost little beside a prompt."""
MAX_PROMPTS: Final = 16
MAX_PAIRS: Final = 2**22
"""Of new tokens and tokens of their contexts: a graph's attention is our kernel, which takes longer
than FlashAttention where contexts are long."""


@dataclass(frozen=True, slots=True, order=True)
class PromptBucket:
    """What a graph is captured for: up to `rows` decode rows, and up to `tokens` of up to
    `MAX_PROMPTS` prompts; decode rows of up to `max_context` tokens."""

    max_context: int
    rows: int
    tokens: int


def prompt_buckets(max_rows: int, max_context: int, max_tokens: int) -> list[PromptBucket]:
    """The graphs to capture; the largest is last.

    Graphs for contexts beyond `LONGEST_PART` split those of decode rows into more parts.
    """
    rows = [*(count for count in DECODE_ROWS if count < max_rows), max_rows]
    contexts = [min(max_context, LONGEST_PART)]
    if max_context > LONGEST_PART:
        contexts.append(min(max_context, LONGEST_PART * CONTEXT_STEP**2))
    return [
        PromptBucket(context, count, tokens)
        for context in contexts
        for count in rows
        for tokens in PROMPT_TOKENS
        if tokens <= max_tokens
    ]


class PromptBuffers:
    """Owned by the thread that runs the model. All buckets share the memory."""

    def __init__(self, buckets: list[PromptBucket], max_blocks: int, device: torch.device) -> None:
        self.buckets = buckets
        most_rows = max((bucket.rows for bucket in buckets), default=0)
        tokens = most_rows + max((bucket.tokens for bucket in buckets), default=0)
        rows = most_rows + MAX_PROMPTS + 1
        self._token_ids = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._positions = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._slots = torch.full((tokens,), NO_SLOT, dtype=torch.int64, device=device)
        self._numbers = torch.arange(rows + 1, dtype=torch.int32, device=device)
        self._query_starts = torch.zeros(rows + 1, dtype=torch.int32, device=device)
        self._context_lengths = torch.zeros(rows, dtype=torch.int32, device=device)
        self._block_tables = torch.zeros((rows, max_blocks), dtype=torch.int32, device=device)
        self._sampled = torch.zeros(most_rows + MAX_PROMPTS, dtype=torch.int64, device=device)

    def find(self, batch: Batch) -> PromptBucket | None:
        """The smallest bucket into which a batch fits that has prompts."""
        rows, width = batch.block_tables.shape
        prompts, tokens = rows - batch.num_decode, batch.token_ids.shape[0] - batch.num_decode
        if (
            batch.targets is not None
            or not 0 < prompts <= MAX_PROMPTS
            or width > self._block_tables.shape[1]
            or batch.prefill_context is None
            or batch.max_query * batch.prefill_context > MAX_PAIRS
        ):
            return None
        fitting = (
            bucket
            for bucket in self.buckets
            if bucket.rows >= batch.num_decode and bucket.tokens >= tokens
        )
        # A longer context than any graph is made for is read in fewer parts than would be best.
        longest = self.buckets[-1].max_context if self.buckets else 0
        context = min(batch.max_context, longest)
        return min((each for each in fitting if each.max_context >= context), default=None)

    def view(self, bucket: PromptBucket) -> Batch:
        """The batch with which a bucket's graph is captured: slices of these buffers."""
        tokens, rows = bucket.rows + bucket.tokens, bucket.rows + MAX_PROMPTS + 1
        return Batch(
            token_ids=self._token_ids[:tokens],
            positions=self._positions[:tokens],
            slots=self._slots[:tokens],
            query_starts=self._query_starts[: rows + 1],
            context_lengths=self._context_lengths[:rows],
            block_tables=self._block_tables[:rows],
            sampled=self._sampled[: bucket.rows + MAX_PROMPTS],
            num_decode=bucket.rows,
            max_query=bucket.tokens,
            max_context=bucket.max_context,
            prefill_context=None,
        )

    def load(self, batch: Batch, bucket: PromptBucket) -> None:
        """Copy a batch for which `find` gave the bucket, and pad it."""
        decode, first = batch.num_decode, bucket.rows
        tokens = batch.token_ids.shape[0] - decode
        prompts, width = batch.block_tables.shape[0] - decode, batch.block_tables.shape[1]
        for own, other in (
            (self._token_ids, batch.token_ids),
            (self._positions, batch.positions),
            (self._slots, batch.slots),
        ):
            own[:decode].copy_(other[:decode], non_blocking=True)
            own[first : first + tokens].copy_(other[decode:], non_blocking=True)
        for table, source in (
            (self._context_lengths, batch.context_lengths),
            (self._block_tables[:, :width], batch.block_tables),
        ):
            table[:decode].copy_(source[:decode], non_blocking=True)
            table[first : first + prompts].copy_(source[decode:], non_blocking=True)
        starts = self._query_starts[first : first + prompts + 1]
        starts.copy_(batch.query_starts[decode:], non_blocking=True)
        starts += first - decode
        count = batch.sampled.shape[0]
        self._sampled[:count].copy_(batch.sampled, non_blocking=True)
        moved = self._sampled[:count]
        moved += (moved >= decode) * (first - decode)
        self._pad(bucket, decode, tokens, prompts, count)

    def clear(self, bucket: PromptBucket) -> None:
        """Turn all of it into padding."""
        self._pad(bucket, 0, 0, 0, 0)

    def _pad(
        self, bucket: PromptBucket, decode: int, tokens: int, prompts: int, sampled: int
    ) -> None:
        """What is there beyond so many of each. Old tokens, positions and blocks are harmless."""
        first, rows = bucket.rows, bucket.rows + MAX_PROMPTS + 1
        self._slots[decode:first].fill_(NO_SLOT)
        self._slots[first + tokens : first + bucket.tokens].fill_(NO_SLOT)
        self._context_lengths[decode:first].fill_(0)
        self._context_lengths[first + prompts : rows].fill_(0)
        self._query_starts[: first + 1].copy_(self._numbers[: first + 1], non_blocking=True)
        # Prompts that are not there have no tokens; the last row has what is left.
        self._query_starts[first + prompts : rows].fill_(first + tokens)
        self._query_starts[rows].fill_(first + bucket.tokens)
        self._sampled[sampled : first + MAX_PROMPTS].fill_(0)
