"""The pool of recurrent states: places, slots, checkpoints, and steps that fail."""

from __future__ import annotations

import random

import pytest
import torch

from llmserve.engines.batching.compute.state_pool import (
    ZERO,
    StatePool,
    StateShape,
    num_places,
)
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence

CPU = torch.device("cpu")
SHAPE = StateShape("layer", "conv 0", (2, 3), torch.float32)


def make_pool(num_slots: int = 4, max_rows: int = 3) -> StatePool:
    return StatePool([SHAPE], num_slots=num_slots, max_rows=max_rows, device=CPU)


def sequence(slot: int) -> Sequence:
    return Sequence([5] * 40, state=slot)


def compute(pool: StatePool, *parts: Slice) -> None:
    """A step that adds the length of its slice to each row's state."""
    rows = pool.rows(StepPlan(parts))
    states = pool.of("layer")["conv 0"]
    for part, source, target in zip(
        parts, rows.sources.tolist(), rows.targets.tolist(), strict=True
    ):
        before = torch.zeros(2, 3) if part.start == 0 else states[source].clone()
        states[target] = before + part.length
    pool.commit(rows)


def value(pool: StatePool, slot: int) -> float:
    return float(pool.of("layer")["conv 0"][pool.place(slot)][0, 0])


def test_a_sequence_goes_on_with_what_it_has_written() -> None:
    pool, one, two = make_pool(), sequence(2), sequence(0)
    compute(pool, Slice(one, 0, 7, False), Slice(two, 0, 3, False))
    compute(pool, Slice(two, 3, 1, True))
    compute(pool, Slice(one, 7, 1, True), Slice(two, 4, 1, True))
    assert [value(pool, slot) for slot in (2, 0)] == [8, 5]


def test_a_step_that_is_not_committed_has_changed_nothing() -> None:
    pool, one = make_pool(), sequence(1)
    compute(pool, Slice(one, 0, 4, False))
    for _ in range(9):
        failed = pool.rows(StepPlan((Slice(one, 4, 2, True),)))
        pool.of("layer")["conv 0"][failed.targets] = torch.nan
    compute(pool, Slice(one, 4, 2, True))
    assert value(pool, 1) == 6


def test_a_checkpoint_stays_while_the_sequence_goes_on_and_others_restore_it() -> None:
    pool, one, two = make_pool(), sequence(0), sequence(1)
    compute(pool, Slice(one, 0, 8, False, saved_to=3))
    compute(pool, Slice(one, 8, 5, False))
    assert [value(pool, slot) for slot in (0, 3)] == [13, 8]
    compute(pool, Slice(two, 8, 1, True, restored_from=3), Slice(one, 13, 1, True))
    assert [value(pool, slot) for slot in (0, 1, 3)] == [14, 9, 8]


def test_a_slot_is_used_again_by_another_sequence() -> None:
    pool = make_pool()
    compute(pool, Slice(sequence(0), 0, 9, False))
    compute(pool, Slice(sequence(0), 0, 2, False))
    assert value(pool, 0) == 2


def test_a_state_that_was_never_written_is_not_read() -> None:
    with pytest.raises(AssertionError, match="was written"):
        make_pool().rows(StepPlan((Slice(sequence(0), 4, 1, True),)))


def test_no_place_is_lost_and_none_is_shared_by_accident() -> None:
    numbers = random.Random(5)
    pool = make_pool(num_slots=6, max_rows=3)
    lengths: dict[int, int] = {}
    for _ in range(500):
        slots = numbers.sample(range(6), numbers.randrange(1, 4))
        checkpoint = numbers.choice([None, *(set(range(6)) - set(slots))])
        parts = []
        for slot in slots:
            start = lengths.get(slot, 0) if numbers.random() < 0.8 else 0
            lengths[slot] = start + numbers.randrange(1, 5)
            saved = checkpoint if slot == slots[0] else None
            parts.append(Slice(sequence(slot), start, lengths[slot] - start, False, saved_to=saved))
        compute(pool, *parts)
        if checkpoint is not None:
            lengths[checkpoint] = lengths[slots[0]]
        assert {slot: value(pool, slot) for slot in lengths} == lengths
    assert not pool.of("layer")["conv 0"][ZERO].any()


def test_memory_is_that_of_slots_and_of_a_step() -> None:
    pool = make_pool(num_slots=4, max_rows=3)
    assert pool.num_bytes == num_places(4, 3) * SHAPE.num_bytes == 9 * 24


def test_rows_that_begin_and_rows_that_go_on_are_apart() -> None:
    pool = make_pool(num_slots=8, max_rows=8)
    for slot in (0, 1, 2):
        compute(pool, Slice(sequence(slot), 0, 4, False))
    plan = StepPlan(
        (
            Slice(sequence(0), 4, 1, True),
            Slice(sequence(1), 4, 1, True),
            Slice(sequence(3), 0, 1, True),
            Slice(sequence(4), 0, 6, False),
            Slice(sequence(5), 0, 6, False),
            Slice(sequence(2), 4, 6, False),
        )
    )
    groups = pool.rows(plan).groups
    assert [(g.first_row, g.first_token, g.num_rows, g.length, g.is_fresh) for g in groups] == [
        (0, 0, 2, 1, False),
        (2, 2, 1, 1, True),
        (3, 3, 2, 6, True),
        (5, 15, 1, 6, False),
    ]
