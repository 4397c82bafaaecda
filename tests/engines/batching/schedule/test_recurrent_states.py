"""Where states are kept, who begins with them, and whose slots are whose."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import NO_STATE, Sequence

BLOCK = 4
SYSTEM = [9] * 32
"""What prompts have in common."""


def scheduler(num_states: int = 16, **changes: Any) -> Scheduler:
    wish: dict[str, Any] = {
        "num_blocks": 256,
        "block_size": BLOCK,
        "max_tokens_per_step": 256,
        "max_sequences": 8,
        "num_states": num_states,
    }
    return Scheduler(**wish | changes)


def sequence(length: int, first: int = 1, **fields: Any) -> Sequence:
    return Sequence([first] + [2] * (length - 1), **fields)


def step(it: Scheduler) -> list[Slice]:
    plan = it.plan()
    it.check()
    it.commit(plan, [7] * sum(part.is_sampled for part in plan.slices))
    it.check()
    return list(plan.slices)


def shape(parts: list[Slice]) -> list[tuple[int, int]]:
    return [(part.start, part.end) for part in parts]


def run(it: Scheduler, each: Sequence, num_new: int = 1) -> list[Slice]:
    """Alone, until so many tokens were made; all its slices."""
    num_tokens = each.num_tokens + num_new
    it.add(each)
    parts = []
    while each.num_tokens < num_tokens:
        parts += step(it)
    it.remove(each)
    it.check()
    return parts


def kept(it: Scheduler) -> int:
    return it.stats().states.checkpoints


def test_a_model_with_states_needs_one() -> None:
    with pytest.raises(ValueError, match="needs a slot"):
        scheduler(0)


def test_a_slot_is_held_while_a_sequence_runs() -> None:
    it = scheduler()
    each = sequence(3)
    it.add(each)
    assert each.state == NO_STATE
    step(it)
    assert 0 <= each.state < 16
    assert it.stats().states.used == 1
    it.remove(each)
    assert each.state == NO_STATE
    assert it.stats().states.used == 0


def test_without_a_free_slot_nobody_is_admitted() -> None:
    it = scheduler(2)
    several = [sequence(3, first) for first in (3, 4, 5)]
    for each in several:
        it.add(each)
    assert len(step(it)) == 2
    assert len(step(it)) == 2
    it.remove(several[0])
    step(it)
    assert several[2].state != NO_STATE


def test_a_preempted_one_loses_its_slot() -> None:
    it = scheduler(num_blocks=5)
    early, late = sequence(6, 3), sequence(6, 4)
    it.add(early)
    it.add(late)
    while not late.num_preemptions:
        step(it)
    assert late.state == NO_STATE
    assert it.stats().states.used == 1


def test_background_work_loses_its_slot_to_others() -> None:
    it = scheduler(1)
    background, other = sequence(3, is_background=True), sequence(3, 5)
    it.add(background)
    step(it)
    it.add(other)
    assert [part.sequence for part in step(it)] == [other]
    assert background.num_preemptions == 1


def test_a_prompt_is_cut_at_its_last_full_block_and_found_up_to_there() -> None:
    it = scheduler()
    first = run(it, sequence(35))
    assert shape(first) == [(0, 32), (32, 35)]
    assert [part.restored_from for part in first] == [None, None]
    assert first[1].saved_to is None
    again = sequence(35)
    (part,) = run(it, again)
    assert (part.start, part.end) == (32, 35)
    assert part.restored_from == first[0].saved_to
    assert again.num_cached == 32
    assert it.stats().states.hits == 1


def test_what_is_left_after_the_cut_may_be_one_token() -> None:
    it = scheduler()
    assert shape(run(it, sequence(33))) == [(0, 32), (32, 33)]
    (part,) = run(it, sequence(33))
    assert (part.start, part.length, part.is_sampled) == (32, 1, True)
    assert part.restored_from is not None


def test_prompts_that_are_cut_fill_a_step_together() -> None:
    it = scheduler()
    for first in range(4):
        it.add(sequence(35, first))
    assert shape(step(it)) == [(0, 32)] * 4
    assert shape(step(it)) == [(32, 35)] * 4


def test_a_short_prompt_is_not_worth_a_checkpoint() -> None:
    it = scheduler()
    assert shape(run(it, sequence(15))) == [(0, 15)]
    assert kept(it) == 0


def test_where_no_state_was_kept_nothing_is_shared() -> None:
    it = scheduler(1)
    run(it, sequence(35))
    assert kept(it) == 0, "the only slot was the sequence's own"
    again = sequence(35)
    run(it, again)
    assert again.num_cached == 0


def test_a_state_in_the_only_slot_gives_way_to_a_newcomer() -> None:
    it = scheduler(2)
    run(it, sequence(35))
    assert kept(it) == 1
    blocking = sequence(3, 5)
    it.add(blocking)
    step(it)
    again = sequence(35)
    it.add(again)
    step(it)
    assert again.num_cached == 0
    assert kept(it) == 0


def test_two_that_begin_with_the_only_state_do_so_at_once() -> None:
    it = scheduler(3)
    run(it, sequence(35))
    for _ in range(2):
        it.add(sequence(35))
    first, second = step(it)
    assert first.restored_from == second.restored_from
    assert len({first.sequence.state, second.sequence.state, first.restored_from}) == 3


def test_a_state_that_a_planned_step_reads_is_not_evicted_in_the_same_step() -> None:
    it = scheduler(3)
    run(it, sequence(35))
    again, others = sequence(35), [sequence(3, 5), sequence(3, 6)]
    for each in (again, *others):
        it.add(each)
    plan = it.plan()
    assert [part.sequence for part in plan.slices] == [again, others[0]]
    it.commit(plan, [7, 7])
    step(it)
    assert others[1].state != NO_STATE
    assert kept(it) == 0


def test_prompts_with_the_same_beginning_share_it_from_the_third_on() -> None:
    it = scheduler()
    run(it, Sequence(SYSTEM + [1] * 21))
    second = Sequence(SYSTEM + [2] * 21)
    assert shape(run(it, second)) == [(0, 32), (32, 52), (52, 53)]
    assert second.num_cached == 0
    third = Sequence(SYSTEM + [3] * 21)
    assert run(it, third)[0].start == 32
    assert third.num_cached == 32


def test_a_conversation_goes_on_from_near_the_end_of_the_answer() -> None:
    it = scheduler()
    first = sequence(35)
    run(it, first, num_new=40)
    assert kept(it) == 2, "one of the prompt, and one that went along with the answer"
    following = Sequence([*first.token_ids, *[5] * 10])
    run(it, following)
    # 74 tokens were computed: the last block that is 16 tokens after another checkpoint ends at 64.
    assert following.num_cached == 64


def test_an_answer_does_not_take_over_a_state_that_others_found() -> None:
    it = scheduler()
    first = sequence(35)
    it.add(first)
    while first.num_tokens < 50:
        step(it)
    assert kept(it) == 2
    run(it, Sequence([*first.token_ids, 5]))
    while first.num_tokens < 66:
        step(it)
    again = Sequence([*first.token_ids[:50], 6])
    run(it, again)
    assert again.num_cached == 48


def test_a_long_prompt_leaves_a_few_states_on_its_way() -> None:
    it = scheduler(max_tokens_per_step=22)
    parts = run(it, sequence(203))
    assert shape(parts)[:4] == [(0, 22), (22, 44), (44, 64), (64, 86)], "one ends with a block"
    saved = [part.end for part in parts if part.saved_to is not None]
    assert saved == [64, 128, 192]


def test_long_prompts_do_not_drive_out_each_others_ends() -> None:
    it = scheduler(4, max_tokens_per_step=22)
    for first in (3, 4, 5):
        run(it, sequence(203, first))
    for first in (3, 4, 5):
        again = sequence(203, first)
        run(it, again)
        assert again.num_cached == 192


def test_a_preempted_one_goes_on_from_where_its_state_was_kept() -> None:
    it = scheduler(num_blocks=26, max_tokens_per_step=64)
    early, late = sequence(6, 3, priority=4), sequence(67, 4)
    it.add(early)
    step(it)
    it.add(late)
    while not late.num_preemptions:
        step(it)
    it.remove(early)
    (part,) = step(it)
    assert part.sequence is late
    assert part.start >= 64
    assert part.restored_from is not None


def test_a_slice_that_failed_keeps_nothing() -> None:
    it = scheduler()
    broken = sequence(35)
    it.add(broken)
    (part,) = it.plan().slices
    assert part.saved_to is not None
    it.remove(broken)
    it.check()
    it.commit(StepPlan(), [])
    assert kept(it) == 0
    again = sequence(35)
    run(it, again)
    assert again.num_cached == 0


def test_one_that_fails_lets_go_of_the_state_it_was_to_begin_with() -> None:
    it = scheduler()
    run(it, sequence(35))
    broken = sequence(35)
    it.add(broken)
    it.plan()
    it.remove(broken)
    it.check()
    assert kept(it) == 1


def test_a_plan_that_is_never_committed_is_planned_again() -> None:
    it = scheduler()
    run(it, sequence(35))
    again, other = sequence(35), sequence(35, 5)
    it.add(again)
    it.add(other)
    before = {part.sequence: part for part in it.plan().slices}
    with pytest.raises(ValueError, match="slices are sampled"):
        it.commit(StepPlan(tuple(before.values())), [])
    it.check()
    after = {part.sequence: part for part in it.plan().slices}
    it.check()
    assert after[again] == before[again]
    assert after[other].saved_to is not None


@pytest.mark.parametrize("fields", [{"cache_salt": "own"}, {"adapter_id": 1}])
def test_states_of_another_salt_or_adapter_are_not_found(fields: dict[str, Any]) -> None:
    it = scheduler()
    run(it, sequence(35, **fields))
    other = sequence(35)
    run(it, other)
    assert other.num_cached == 0
    same = sequence(35, **fields)
    run(it, same)
    assert same.num_cached == 32


def test_without_caching_nothing_is_cut_or_kept() -> None:
    it = scheduler(is_caching=False)
    for _ in range(2):
        assert shape(run(it, sequence(35), num_new=2)) == [(0, 35), (35, 36)]
    assert kept(it) == 0


def test_a_state_goes_with_its_block() -> None:
    it = scheduler(num_blocks=12)
    run(it, sequence(35))
    assert kept(it) == 1
    run(it, sequence(15, 5))
    assert kept(it) == 1
    run(it, sequence(15, 6))
    assert kept(it) == 0


def test_a_pinned_prefix_keeps_its_state() -> None:
    it = scheduler(4)
    prefix = tuple([9] * 35)
    run(it, Sequence(list(prefix)))
    assert it.pin(prefix) == 32
    for first in range(10, 20):
        run(it, sequence(35, first))
    continued = Sequence([*prefix, 5, 5])
    run(it, continued)
    assert continued.num_cached == 32
    it.check()


def test_without_a_state_nothing_is_pinned() -> None:
    it = scheduler()
    short = tuple([9] * 15)
    run(it, Sequence(list(short)))
    assert it.pin(short) == 0
    assert it.stats().blocks_used == 0


def test_pins_take_half_of_the_slots_at_most() -> None:
    it = scheduler(4)
    prefixes = [tuple([first] * 35) for first in (10, 11, 12)]
    for prefix in prefixes:
        run(it, Sequence(list(prefix)))
    assert [it.pin(prefix) for prefix in prefixes] == [32, 32, 0]
    assert it.pin(prefixes[1][:34]) == 32, "the same state twice is one"
    it.check()


def test_a_dropped_pin_lets_go_of_its_state() -> None:
    it = scheduler(4, num_blocks=18)
    prefix = tuple([9] * 35)
    run(it, Sequence(list(prefix)))
    assert it.pin(prefix) == 32
    run(it, sequence(60, 3))
    assert it.stats().blocks_used == 0
    it.check()
