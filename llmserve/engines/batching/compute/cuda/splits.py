"""Into how many parts decode splits each context. Knows no Triton."""

from __future__ import annotations

from typing import Final

MAX_SPLITS: Final = 64
LONGEST_PART: Final = 4096
"""Tokens that one program reads at most, as far as `MAX_SPLITS` permits: a long context among short
ones would keep a few multiprocessors busy and all others waiting."""


def num_splits(num_rows: int, kv_heads: int, processors: int, max_context: int) -> int:
    """Parts of each context, a power of two: about two programs per multiprocessor, or more if the
    longest context needs them. `max_context` may be a bound."""
    by_rows = -(-2 * processors // max(1, num_rows * kv_heads))
    by_rows = 1 << (by_rows.bit_length() - 1)
    by_context = 1 << (-(-max_context // LONGEST_PART) - 1).bit_length()
    return min(MAX_SPLITS, max(by_rows, by_context))


def all_splits(max_rows: int, kv_heads: int, processors: int, max_context: int) -> set[int]:
    """Every number of parts that a batch within these bounds may get."""
    least = num_splits(max_rows, kv_heads, processors, 1)
    most = num_splits(1, kv_heads, processors, max_context)
    return {1 << power for power in range(least.bit_length() - 1, most.bit_length())}
