"""Which slots are given out, which checkpoints go for them."""

from __future__ import annotations

import pytest

from llmserve.engines.batching.schedule.invariant import InvariantViolated
from llmserve.engines.batching.schedule.state_slots import StateSlots


def keep(slots: StateSlots, *names: bytes) -> list[int]:
    """Checkpoints, the first one oldest; their slots."""
    kept = []
    for name in names:
        slot = slots.allocate()
        slots.keep(name, slot)
        kept.append(slot)
    return kept


def prove(slots: StateSlots, name: bytes) -> None:
    checkpoint = slots.find(name)
    assert checkpoint is not None
    slots.hold(checkpoint)
    slots.let_go(checkpoint)


def names(slots: StateSlots) -> set[bytes]:
    return {name for name in (b"a", b"b", b"c", b"d", b"e") if slots.find(name) is not None}


def test_slots_go_round() -> None:
    slots = StateSlots(2)
    first, second = slots.allocate(), slots.allocate()
    assert {first, second} == {0, 1}
    assert slots.num_available == 0
    slots.release(first)
    assert slots.allocate() == first


def test_a_checkpoint_is_found_until_its_slot_is_needed() -> None:
    slots = StateSlots(2)
    (slot,) = keep(slots, b"a")
    found = slots.find(b"a")
    assert found is not None
    assert found.slot == slot
    assert slots.num_available == 2
    slots.allocate()
    assert names(slots) == {b"a"}, "a free slot goes first"
    assert slots.allocate() == slot
    assert names(slots) == set()


def test_of_two_states_of_the_same_content_the_first_stays() -> None:
    slots = StateSlots(3)
    first, second = keep(slots, b"a", b"a")
    found = slots.find(b"a")
    assert found is not None
    assert found.slot == first
    assert slots.num_checkpoints == 1
    slots.check([], [])
    assert slots.allocate() == second


def test_the_oldest_goes_first() -> None:
    slots = StateSlots(3)
    keep(slots, b"a", b"b", b"c")
    slots.allocate()
    assert names(slots) == {b"b", b"c"}


def test_what_was_never_found_goes_before_what_was() -> None:
    slots = StateSlots(4)
    keep(slots, b"a", b"b", b"c", b"d")
    prove(slots, b"a")
    slots.allocate()
    slots.allocate()
    assert names(slots) == {b"a", b"d"}


def test_what_was_kept_in_passing_goes_before_all_others_unless_it_is_found() -> None:
    slots = StateSlots(5)
    keep(slots, b"a")
    for name in (b"b", b"c", b"d"):
        slots.keep(name, slots.allocate(), is_passing=True)
    keep(slots, b"e")
    prove(slots, b"c")
    slots.allocate()
    assert names(slots) == {b"a", b"b", b"c", b"e"}
    slots.allocate()
    assert names(slots) == {b"a", b"c", b"e"}


def test_what_was_found_long_ago_goes_once_it_is_nearly_all() -> None:
    slots = StateSlots(5)
    keep(slots, b"a", b"b", b"c", b"d", b"e")
    for name in (b"b", b"a", b"c", b"d"):
        prove(slots, name)
    slots.allocate()  # one of five is new, less than a quarter: the room of new ones grows
    assert names(slots) == {b"a", b"c", b"d", b"e"}


def test_what_is_held_stays() -> None:
    slots = StateSlots(2)
    keep(slots, b"a", b"b")
    held = slots.find(b"a")
    assert held is not None
    slots.hold(held)
    assert slots.num_available == 1
    slots.allocate()
    slots.forget(b"a")
    assert slots.take_unproven(b"a") is None
    assert names(slots) == {b"a"}
    slots.let_go(held)
    assert slots.num_available == 1


def test_a_checkpoint_of_an_evicted_block_gives_its_slot_back() -> None:
    slots = StateSlots(2)
    keep(slots, b"a", b"b")
    prove(slots, b"b")
    for name in (b"a", b"b", b"c"):
        slots.forget(name)
    assert names(slots) == set()
    slots.check([], [])


def test_only_a_checkpoint_that_was_never_found_is_taken_over() -> None:
    slots = StateSlots(2)
    slot, _ = keep(slots, b"a", b"b")
    prove(slots, b"b")
    assert slots.take_unproven(b"b") is None
    assert slots.take_unproven(b"a") == slot
    assert names(slots) == {b"b"}


def broken(what: str) -> tuple[StateSlots, list[int]]:
    slots = StateSlots(3)
    held = [slots.allocate()]
    keep(slots, b"a")
    checkpoint = slots.find(b"a")
    assert checkpoint is not None
    slots.check(held, [])
    if what == "lost":
        held = []
    elif what == "two owners":
        slots.release(held[0])
    elif what == "differ":
        checkpoint.num_holds = 1
    elif what == "never":
        slots._unproven.clear()
    elif what == "is listed":
        del slots._checkpoints[b"a"]
        slots._free.append(checkpoint.slot)
    return slots, held


@pytest.mark.parametrize("problem", ["lost", "two owners", "differ", "never", "is listed"])
def test_contradictions_are_found(problem: str) -> None:
    slots, held = broken(problem)
    with pytest.raises(InvariantViolated, match=problem):
        slots.check(held, [])


def test_a_hold_of_what_was_evicted_is_found() -> None:
    slots = StateSlots(1)
    keep(slots, b"a")
    checkpoint = slots.find(b"a")
    assert checkpoint is not None
    slots.forget(b"a")
    with pytest.raises(InvariantViolated, match="was evicted"):
        slots.check([], [checkpoint])
