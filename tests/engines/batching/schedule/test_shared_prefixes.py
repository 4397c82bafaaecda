"""Streams that begin alike compute their beginning once."""

from __future__ import annotations

from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence

BLOCK = 4


def scheduler(num_blocks: int = 64, *, is_caching: bool = True) -> Scheduler:
    return Scheduler(
        num_blocks=num_blocks,
        block_size=BLOCK,
        max_tokens_per_step=32,
        max_sequences=16,
        is_caching=is_caching,
    )


def sequence(length: int, first: int = 1) -> Sequence:
    return Sequence([first] + [2] * (length - 1))


def step(it: Scheduler) -> StepPlan:
    plan = it.plan()
    it.commit(plan, [7] * sum(part.is_sampled for part in plan.slices))
    it.check()
    return plan


def shape(plan: StepPlan) -> list[tuple[int, int]]:
    return [(part.start, part.length) for part in plan.slices]


def test_what_a_preempted_stream_finds_again_is_no_gift_of_others() -> None:
    it = scheduler(5)
    early, late = sequence(6, first=3), sequence(6, first=4)
    it.add(early)
    it.add(late)
    while not late.num_preemptions:
        step(it)
    it.remove(early)
    plan = step(it)
    assert plan.slices[0].start > 0
    assert late.num_cached == 0


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
    assert it.stats().blocks_used == 0
    large = sequence(17, first=9)
    it.add(large)
    step(it)
    it.remove(large)
    again = sequence(9)
    it.add(again)
    step(it)
    assert again.num_cached == 4, "the end goes before the beginning"


def test_without_caching_nothing_is_shared() -> None:
    it = scheduler(is_caching=False)
    for _ in range(2):
        each = sequence(11)
        it.add(each)
        step(it)
    assert each.num_cached == 0


def test_another_salt_shares_nothing() -> None:
    it = scheduler()
    for salt, cached in (("", 0), ("a", 0), ("b", 0), ("a", 8), ("", 8)):
        each = Sequence([1] * 11, cache_salt=salt)
        it.add(each)
        step(it)
        it.remove(each)
        assert each.num_cached == cached


def test_twins_of_one_step_do_not_share_and_each_keeps_its_own() -> None:
    it = scheduler()
    twins = [sequence(11), sequence(11)]
    for each in twins:
        it.add(each)
    step(it)
    assert not set(twins[0].blocks) & set(twins[1].blocks)
    assert [each.num_cached for each in twins] == [0, 0]
    it.remove(twins[0])
    step(it)
    it.remove(twins[1])
    assert it.stats().blocks_used == 0
