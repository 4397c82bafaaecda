"""Background sequences: what they get beside others, and what they lose to them."""

from __future__ import annotations

import pytest

from llmserve.engines.batching.schedule.allowance import EVERYTHING, NOTHING, Allowance
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence

BLOCK = 4


def scheduler(num_blocks: int = 64, *, tokens: int = 32, sequences: int = 8) -> Scheduler:
    return Scheduler(
        num_blocks=num_blocks,
        block_size=BLOCK,
        max_tokens_per_step=tokens,
        max_sequences=sequences,
        is_caching=False,
    )


def mine(length: int, caller: str = "me") -> Sequence:
    return Sequence([1] * length, caller)


def work(length: int, caller: str = "batch") -> Sequence:
    return Sequence([2] * length, caller, is_background=True)


def step(it: Scheduler, allowance: Allowance = EVERYTHING) -> StepPlan:
    plan = it.plan(None, allowance)
    it.commit(plan, [7] * sum(part.is_sampled for part in plan.slices))
    it.check()
    return plan


def placed(plan: StepPlan) -> list[Sequence]:
    return [part.sequence for part in plan.slices]


def added(it: Scheduler, *sequences: Sequence) -> tuple[Sequence, ...]:
    for sequence in sequences:
        it.add(sequence)
    return sequences


def test_alone_it_is_bound_by_nothing() -> None:
    it = scheduler()
    added(it, work(9), work(3))
    assert [part.length for part in step(it, NOTHING).slices] == [9, 3]
    assert [part.length for part in step(it, NOTHING).slices] == [1, 1]


def test_beside_others_it_is_paused_with_its_blocks_and_goes_on_where_it_was() -> None:
    it = scheduler()
    paused, other = added(it, work(9), mine(3))
    assert placed(step(it)) == [other, paused]
    blocks = list(paused.blocks)
    for _ in range(5):
        assert placed(step(it, NOTHING)) == [other]
    assert (paused.blocks, paused.num_computed) == (blocks, 9)
    it.remove(other)
    [part] = step(it, NOTHING).slices
    assert (part.sequence, part.start, part.length) == (paused, 9, 1)
    assert paused.num_preemptions == 0


def test_a_paused_one_can_be_removed() -> None:
    it = scheduler()
    paused, other = added(it, work(9), mine(3))
    step(it)
    step(it, NOTHING)
    it.remove(paused)
    it.check()
    it.remove(other)
    assert it.is_idle
    assert it.stats().blocks_used == 0


def test_so_many_rows_ride_along_those_of_the_caller_that_was_served_least_first() -> None:
    it = scheduler()
    other, a1, a2, b = added(it, mine(2), work(2, "a"), work(2, "a"), work(2, "b"))
    step(it)
    rides = [placed(step(it, Allowance(1, 0)))[1:] for _ in range(3)]
    assert rides == [[b], [b], [a1]]
    assert set(placed(step(it, Allowance(3, 0)))) == {other, a1, a2, b}


def test_its_prompt_is_read_in_pieces_as_small_as_allowed() -> None:
    it = scheduler()
    other, prompt = added(it, mine(2), work(10))
    step(it, NOTHING)
    pieces = [
        [(part.start, part.length) for part in step(it, Allowance(0, 4)).slices[1:]]
        for _ in range(3)
    ]
    assert pieces == [[(0, 4)], [(4, 4)], [(8, 2)]]
    assert placed(step(it, Allowance(0, 4))) == [other], "its next token is a row"
    assert prompt.num_tokens == 11


def test_who_comes_takes_its_place_at_once() -> None:
    it = scheduler(sequences=2)
    first, last = added(it, work(3), work(3))
    step(it)
    [other] = added(it, mine(3))
    assert other in placed(step(it, NOTHING))
    assert (first.num_preemptions, last.num_preemptions) == (0, 1)
    assert it.stats().background_waiting == 1
    assert last.num_tokens == 4, "what was generated is kept"
    it.remove(other)
    [again] = [part for part in step(it).slices if part.sequence is last]
    assert (again.start, again.length) == (0, 4)


def test_who_comes_takes_as_many_blocks_as_it_needs_and_no_more() -> None:
    it = scheduler(num_blocks=8)
    works = added(it, work(7), work(7), work(7))
    step(it)
    [other] = added(it, mine(9))
    step(it, NOTHING)
    assert [w.num_preemptions for w in works] == [0, 0, 1]
    for _ in range(20):
        step(it, NOTHING)
    assert other.num_tokens == 30
    assert [w.num_preemptions for w in works] == [1, 1, 1]
    assert other.num_preemptions == 0


def test_what_it_lost_to_one_who_still_finds_no_room_it_does_not_get_back_first() -> None:
    it = scheduler(num_blocks=8)
    running, lost = added(it, mine(15), work(3))
    step(it)
    [waiting] = added(it, mine(17))
    for _ in range(3):
        plan = step(it)
        assert placed(plan) == [running]
    assert lost.num_preemptions == 1
    it.remove(running)
    assert placed(step(it))[0] is waiting


def test_what_it_uses_is_not_charged_to_its_caller_among_others() -> None:
    it = scheduler(tokens=8, sequences=8)
    [batch] = added(it, work(30, "a"))
    for _ in range(6):
        step(it)
    assert batch.num_tokens > 30
    a, b = added(it, mine(8, "a"), mine(8, "b"))
    assert placed(step(it, NOTHING)) == [a]
    assert placed(step(it, NOTHING)) == [a, b]


@pytest.mark.parametrize("allowance", [NOTHING, EVERYTHING, Allowance(1, 1)])
def test_counts_tell_both_apart(allowance: Allowance) -> None:
    it = scheduler(sequences=2, tokens=8)
    added(it, work(20), work(3))
    step(it)
    stats = it.stats()
    assert (stats.background_running, stats.background_waiting, stats.background_begun) == (1, 1, 1)
    assert (stats.foreground_running, stats.has_both) == (0, False)
    added(it, mine(3), mine(3))
    step(it, allowance)
    stats = it.stats()
    assert (stats.foreground_running, stats.foreground_waiting) == (2, 0)
    assert (stats.background_running, stats.background_waiting) == (0, 2)
    assert stats.has_both
