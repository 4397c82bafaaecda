"""Where the rows of a step find their recurrent states, and which rows are computed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from llmserve.engines.batching.schedule.plan import Slice


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Neighbouring rows of a step, of `length` tokens each, that a recurrent layer takes as one
    batch.

    Attributes:
        first_row: of them in the step.
        first_token: of them in the step.
        is_fresh: whether they begin sequences, so that no state is read.
    """

    first_row: int
    first_token: int
    num_rows: int
    length: int
    is_fresh: bool

    @property
    def num_tokens(self) -> int:
        """Of all its rows."""
        return self.num_rows * self.length


@dataclass(frozen=True, slots=True)
class StateRows:
    """The rows of a step.

    Attributes:
        sources: (num_rows,) int64, places in the pool; of rows that begin, any that is zero.
        targets: (num_rows,) int64, places to which the new states go, no two the same.
        groups: all rows, in order.
        slices: what they compute.
    """

    sources: torch.Tensor
    targets: torch.Tensor
    groups: tuple[RowGroup, ...]
    slices: tuple[Slice, ...] = ()

    @property
    def has_fresh(self) -> bool:
        """Whether any row begins a sequence."""
        return any(group.is_fresh for group in self.groups)


def row_groups(slices: Sequence[Slice]) -> tuple[RowGroup, ...]:
    """Rows of the same length that all begin, or all go on."""
    groups: list[RowGroup] = []
    row = token = 0
    for (length, is_fresh), parts in groupby(slices, lambda part: (part.length, part.start == 0)):
        group = RowGroup(row, token, sum(1 for _ in parts), length, is_fresh)
        groups.append(group)
        row += group.num_rows
        token += group.num_tokens
    return tuple(groups)
