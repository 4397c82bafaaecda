"""Into how many parts decode cuts its contexts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmserve.engines.batching.compute.cuda.splits import LONGEST_PART, all_splits, num_splits

SHORT = 1000


def test_splits_fill_the_device_and_stop_where_rows_do() -> None:
    assert num_splits(1, 8, 132, SHORT) == 32
    assert num_splits(8, 8, 132, SHORT) == 4
    assert num_splits(64, 8, 132, SHORT) == 1
    assert num_splits(1, 1, 132, SHORT) == 64


def test_a_long_context_is_cut_however_many_rows_there_are() -> None:
    assert num_splits(64, 8, 132, LONGEST_PART) == 1
    assert num_splits(64, 8, 132, LONGEST_PART + 1) == 2
    assert num_splits(64, 8, 132, 32_768) == 8
    assert num_splits(256, 8, 132, 10**6) == 64


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 160), st.integers(1, 200_000))
def test_all_that_may_come_is_told_before(
    rows: int, kv_heads: int, processors: int, context: int
) -> None:
    splits = num_splits(rows, kv_heads, processors, context)
    assert splits & (splits - 1) == 0
    assert splits in all_splits(300, kv_heads, processors, 200_000)
