"""Which inputs are computed together, so that little of it is padding. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def buckets(lengths: Sequence[int], overhead: int) -> list[list[int]]:
    """The indices of the lengths in groups, each of which is padded to its longest.

    The tokens of all, padding included, are as few as can be, where a group counts `overhead`
    tokens by itself: what a forward pass costs however little is in it. Found by dynamic
    programming over the different lengths, which takes time in proportion to their square.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ends: list[int] = []  # in `order`, after the last input of each length
    sizes: list[int] = []
    for place, index in enumerate(order, start=1):
        if sizes and sizes[-1] == lengths[index]:
            ends[-1] = place
        else:
            sizes.append(lengths[index])
            ends.append(place)
    starts = [0, *ends]
    costs, cuts = [0], [0]
    for last, size in enumerate(sizes):
        best, cut = min(
            (costs[first] + overhead + size * (ends[last] - starts[first]), first)
            for first in range(last + 1)
        )
        costs.append(best)
        cuts.append(cut)
    groups: list[list[int]] = []
    end = len(sizes)
    while end:
        first = cuts[end]
        groups.append(order[starts[first] : starts[end]])
        end = first
    groups.reverse()
    return groups
