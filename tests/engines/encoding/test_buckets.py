"""Which inputs are computed together."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llmserve.engines.encoding.buckets import buckets


def cost(lengths: list[int], groups: list[list[int]], overhead: int) -> int:
    return sum(overhead + max(lengths[i] for i in group) * len(group) for group in groups)


def best(lengths: list[int], overhead: int) -> int:
    """Of all ways to cut the sorted lengths."""
    lengths = sorted(lengths)
    found = []
    for cuts in range(2 ** (len(lengths) - 1)):
        ends = [i for i in range(1, len(lengths)) if cuts >> (i - 1) & 1]
        groups = [list(range(a, b)) for a, b in pairwise([0, *ends, len(lengths)])]
        found.append(cost(lengths, groups, overhead))
    return min(found)


def test_nothing_is_padded_where_groups_cost_nothing() -> None:
    assert buckets([5, 3, 5, 9], 0) == [[1], [0, 2], [3]]


def test_all_are_together_where_groups_are_dear() -> None:
    assert buckets([5, 3, 5, 9], 1000) == [[1, 0, 2, 3]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(0, 60))
def test_no_other_way_costs_less(lengths: list[int], overhead: int) -> None:
    groups = buckets(lengths, overhead)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(lengths[group[-1]] == max(lengths[i] for i in group) for group in groups)
    assert cost(lengths, groups, overhead) == best(lengths, overhead)
