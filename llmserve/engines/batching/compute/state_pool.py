"""The recurrent states of one model: what its layers remember of each sequence.

slot     place                     A slot is what the scheduler counts. Each step writes its rows'
  0  ─────  3                      new states to places that no slot has, and `commit` gives them
  1  ───┬─  4   checkpoint of 2    to the slots: a step that fails has changed nothing. A
  2  ───┘                          checkpoint shares the sequence's place: nothing is copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.batching.schedule.plan import Slice, StepPlan

ZERO: Final = 0
"""The place that is never written: sequences begin with it."""
PADDING: Final = 1
"""The place to which padded rows of a CUDA graph write."""
NUM_RESERVED: Final = 2


@dataclass(frozen=True, slots=True)
class StateShape:
    """One state of a layer; `name` tells those of the same layer apart."""

    layer: int
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """For one sequence."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StateRows:
    """Where the rows of a step find their states, and where the new ones go.

    Attributes:
        sources: (num_rows,) int64, places.
        targets: (num_rows,) int64, places; no two are the same.
        is_fresh: of each row, whether it begins a sequence.
        slices: the rows.
        places: `targets` on the host.
    """

    sources: torch.Tensor
    targets: torch.Tensor
    is_fresh: tuple[bool, ...]
    slices: tuple[Slice, ...] = ()
    places: tuple[int, ...] = ()


def num_places(num_slots: int, max_rows: int) -> int:
    """How many states a pool with so many slots has memory for."""
    return num_slots + max_rows + NUM_RESERVED


class StatePool:
    """States for `num_slots` slots, in steps of up to `max_rows` rows. Owned by the thread that
    computes."""

    def __init__(
        self,
        shapes: Iterable[StateShape],
        *,
        num_slots: int,
        max_rows: int,
        device: torch.device,
    ) -> None:
        self.num_slots = num_slots
        self.max_rows = max_rows
        self._device = device
        count = num_places(num_slots, max_rows)
        self._states = {
            (state.layer, state.name): torch.zeros(
                (count, *state.shape), dtype=state.dtype, device=device
            )
            for state in shapes
        }
        self._places = [ZERO] * num_slots
        self._num_slots_at = [0] * count
        self._free = list(range(NUM_RESERVED, count))

    @property
    def num_bytes(self) -> int:
        """Size of all states."""
        return sum(state.nbytes for state in self._states.values())

    def of(self, layer: int, name: str) -> torch.Tensor:
        """(num_places, *shape), a layer's states in all places."""
        return self._states[layer, name]

    def place(self, slot: int) -> int:
        """Where the state of a slot is."""
        return self._places[slot]

    def rows(self, plan: StepPlan) -> StateRows:
        """Of a step; the next one is asked for when this one was committed, or has failed."""
        slices = plan.slices
        is_fresh = tuple(part.start == 0 for part in slices)
        sources = [self._source(part) for part in slices]
        targets = self._free[-len(slices) :]
        return StateRows(
            torch.tensor(sources).to(self._device, non_blocking=True),
            torch.tensor(targets).to(self._device, non_blocking=True),
            is_fresh,
            slices,
            tuple(targets),
        )

    def commit(self, rows: StateRows) -> None:
        """The step was computed: its states belong to the slots."""
        if rows.slices:
            del self._free[-len(rows.slices) :]
        for part, place in zip(rows.slices, rows.places, strict=True):
            self._give(part.sequence.state, place)
            if part.saved_to is not None:
                self._give(part.saved_to, place)

    def _source(self, part: Slice) -> int:
        if part.start == 0:
            return ZERO
        slot = part.sequence.state if part.restored_from is None else part.restored_from
        return self._places[slot]

    def _give(self, slot: int, place: int) -> None:
        before = self._places[slot]
        self._places[slot] = place
        self._num_slots_at[place] += 1
        if before != ZERO:
            self._num_slots_at[before] -= 1
            if not self._num_slots_at[before]:
                self._free.append(before)
