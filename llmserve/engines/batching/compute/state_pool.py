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

from llmserve.engines.batching.compute.state_rows import StateRows, row_groups
from llmserve.engines.batching.schedule.plan import Slice, StepPlan

ZERO: Final = 0
"""The place that is never written: padded rows of a CUDA graph read it."""
PADDING: Final = 1
"""The place to which they write."""
NUM_RESERVED: Final = 2


@dataclass(frozen=True, slots=True)
class StateShape:
    """A state that one module keeps for each sequence.

    Attributes:
        module: its name in the model.
        name: tells states of the same module apart.
    """

    module: str
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """For one sequence."""
        return math.prod(self.shape) * self.dtype.itemsize


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
        self._states: dict[str, dict[str, torch.Tensor]] = {}
        for state in shapes:
            tensor = torch.zeros((count, *state.shape), dtype=state.dtype, device=device)
            self._states.setdefault(state.module, {})[state.name] = tensor
        self._places = [ZERO] * num_slots
        self._num_slots_at = [0] * count
        self._free = list(range(NUM_RESERVED, count))

    @property
    def num_bytes(self) -> int:
        """Size of all states."""
        return sum(state.nbytes for states in self._states.values() for state in states.values())

    def of(self, module: str) -> dict[str, torch.Tensor]:
        """A module's states by name, (num_places, *shape) each."""
        return self._states[module]

    def place(self, slot: int) -> int:
        """Where the state of a slot is; `ZERO` before it was written for the first time."""
        return self._places[slot]

    def rows(self, plan: StepPlan) -> StateRows:
        """Of a step; those of the next one are asked for when it was committed, or has failed."""
        slices = plan.slices
        targets = self._free[-len(slices) :]
        assert len(targets) == len(slices), "a step has no more than max_rows rows"
        return StateRows(
            sources=self._index([self._source(part) for part in slices]),
            targets=self._index(targets),
            groups=row_groups(slices),
            slices=slices,
        )

    def commit(self, rows: StateRows) -> None:
        """The step was computed: its states belong to the slots."""
        count = len(rows.slices)
        places, self._free = self._free[-count:], self._free[:-count]
        for part, place in zip(rows.slices, places, strict=True):
            self._give(part.sequence.state, place)
            if part.saved_to is not None:
                self._give(part.saved_to, place)

    def _index(self, places: list[int]) -> torch.Tensor:
        return torch.tensor(places).to(self._device, non_blocking=True)

    def _source(self, part: Slice) -> int:
        if part.start == 0:
            return ZERO
        slot = part.sequence.state if part.restored_from is None else part.restored_from
        place = self.place(slot)
        assert place != ZERO, "a sequence goes on with a state that was written"
        return place

    def _give(self, slot: int, place: int) -> None:
        before, self._places[slot] = self._places[slot], place
        self._num_slots_at[place] += 1
        if before != ZERO:
            self._num_slots_at[before] -= 1
            if not self._num_slots_at[before]:
                self._free.append(before)
