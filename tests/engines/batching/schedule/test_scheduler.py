"""What a step takes, who waits, who loses blocks."""

from __future__ import annotations

import pytest

from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence

BLOCK = 4


def scheduler(
    num_blocks: int = 64, *, tokens: int = 32, sequences: int = 16, is_caching: bool = True
) -> Scheduler:
    return Scheduler(
        num_blocks=num_blocks,
        block_size=BLOCK,
        max_tokens_per_step=tokens,
        max_sequences=sequences,
        is_caching=is_caching,
    )


def sequence(length: int, caller: str = "", weight: int = 1, first: int = 1) -> Sequence:
    return Sequence([first] + [2] * (length - 1), length, caller, weight)


def step(it: Scheduler, prefill: int | None = None) -> StepPlan:
    plan = it.plan(prefill)
    it.commit(plan, [7] * sum(part.is_sampled for part in plan.slices))
    it.check()
    return plan


def shape(plan: StepPlan) -> list[tuple[int, int]]:
    return [(part.start, part.length) for part in plan.slices]


def test_more_sequences_than_a_step_has_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="max_sequences is 64"):
        scheduler(tokens=32, sequences=64)


def test_what_the_pool_could_never_hold_is_refused_and_nothing_is_kept() -> None:
    it = scheduler(4)
    with pytest.raises(ValueError, match="16 tokens need more than the 4 blocks"):
        it.add(sequence(16))
    assert it.is_idle
    it.check()


def test_removing_is_harmless_wherever_it_is() -> None:
    it = scheduler(tokens=8, sequences=2)
    running, half, waiting = sequence(3), sequence(30, first=3), sequence(5)
    for each in (running, half, waiting):
        it.add(each)
    step(it)
    for each in (running, half, waiting, running):
        it.remove(each)
        it.check()
    assert it.is_idle
    assert it.stats().blocks_used == 0
    assert it.plan() == StepPlan()


def test_a_sequence_removed_within_a_step_gets_no_token() -> None:
    it = scheduler()
    gone, stays = sequence(3), sequence(3, first=5)
    it.add(gone)
    it.add(stays)
    plan = it.plan()
    it.remove(gone)
    it.commit(plan, [8, 9])
    assert gone.num_tokens == 3
    assert stays.token_ids[-1] == 9


def test_streams_go_on_while_a_long_prompt_is_read_in_pieces() -> None:
    it = scheduler(tokens=8, sequences=4)
    stream, long = sequence(2), sequence(20, first=3)
    it.add(stream)
    step(it)
    it.add(long)
    plans = [step(it) for _ in range(3)]
    assert [shape(plan) for plan in plans] == [
        [(2, 1), (0, 7)],
        [(3, 1), (7, 7)],
        [(4, 1), (14, 6)],
    ]
    assert [plan.slices[1].is_sampled for plan in plans] == [False, False, True]


def test_prefill_takes_no_more_than_it_is_given() -> None:
    it = scheduler(tokens=32)
    it.add(sequence(30))
    assert shape(step(it, 5)) == [(0, 5)]
    assert shape(step(it, 0)) == []
    assert shape(step(it)) == [(5, 25)]


def test_prompts_share_a_step() -> None:
    it = scheduler(tokens=12, sequences=4)
    for first in (3, 4, 5):
        it.add(sequence(5, first=first))
    assert shape(step(it)) == [(0, 5), (0, 5), (0, 2)]


def test_the_latest_loses_its_blocks_and_comes_back_first() -> None:
    it = scheduler(4, tokens=32)
    early, late = sequence(6, first=3), sequence(6, first=4)
    it.add(early)
    it.add(late)
    step(it)
    assert it.stats().waiting == 1  # there is no room for a little more
    step(it)
    it = scheduler(5, tokens=32)
    early, late = sequence(6, first=3), sequence(6, first=4)
    it.add(early)
    it.add(late)
    newcomer = sequence(2, first=5)
    preempted: list[Sequence] = []
    for _ in range(12):
        plan = step(it)
        if plan.preempted and not preempted:
            it.add(newcomer)
        preempted += plan.preempted
    assert preempted[0] is late
    assert not early.preemptions
    it.remove(early)
    plan = step(it)
    assert plan.slices[0].sequence is late
    assert plan.slices[0].length + plan.slices[0].start == late.num_tokens - 1
    assert late.num_cached == 0, "what it computed itself is no gift of others"


def test_a_second_prompt_finds_whole_blocks_of_the_first() -> None:
    it = scheduler()
    first, second, other = sequence(11), sequence(11), sequence(11, first=9)
    it.add(first)
    step(it)
    it.add(second)
    it.add(other)
    plan = step(it)
    assert second.num_cached == 8
    assert second.blocks[:2] == first.blocks[:2]
    assert second.blocks[2] != first.blocks[2]
    assert other.num_cached == 0
    assert sorted(shape(plan)) == [(0, 11), (8, 3), (11, 1)]
    assert (it.stats().prefix_queries, it.stats().prefix_hits) == (33, 8)


def test_a_prompt_of_whole_blocks_still_computes_its_last_token() -> None:
    it = scheduler()
    for _ in range(2):
        each = sequence(8)
        it.add(each)
        step(it)
        it.remove(each)
    assert each.num_cached == 4


def test_what_is_left_behind_is_found_until_its_room_is_needed() -> None:
    it = scheduler(6)
    old = sequence(9)
    it.add(old)
    step(it)
    it.remove(old)
    assert it.stats().blocks_cached == 2
    assert it.stats().blocks_used == 0
    large = sequence(20, first=9)
    it.add(large)
    step(it)
    it.remove(large)
    again = sequence(9)
    it.add(again)
    step(it)
    assert again.num_cached < 8


def test_without_caching_nothing_is_shared() -> None:
    it = scheduler(is_caching=False)
    for _ in range(2):
        each = sequence(11)
        it.add(each)
        step(it)
    assert each.num_cached == 0
    assert it.stats().prefix_hits == 0


def test_a_pinned_prefix_outlives_what_comes_after() -> None:
    it = scheduler(10)
    prefix = sequence(13)
    it.add(prefix)
    step(it)
    it.remove(prefix)
    assert it.pin(prefix.token_ids[:13]) == 12
    assert it.stats().blocks_pinned == 3
    for first in (20, 21, 22):
        other = sequence(16, first=first)
        it.add(other)
        step(it)
        it.remove(other)
    again = sequence(13)
    it.add(again)
    step(it)
    assert again.num_cached == 12
    it.remove(again)
    it.unpin(prefix.token_ids[:13])
    assert it.stats().blocks_used == 0


def test_pins_take_half_of_the_pool_at_most_and_give_way_to_requests() -> None:
    it = scheduler(8)
    prefix = sequence(21)
    it.add(prefix)
    step(it)
    it.remove(prefix)
    assert it.pin(prefix.token_ids) == 0
    assert it.pin(prefix.token_ids[:16]) == 16
    large = sequence(30, first=9)
    it.add(large)
    assert shape(step(it)) == [(0, 30)]
    assert it.stats().blocks_pinned == 0
    it.check()


def test_what_is_not_there_any_more_cannot_be_pinned() -> None:
    assert scheduler().pin([1] * 20) == 0
