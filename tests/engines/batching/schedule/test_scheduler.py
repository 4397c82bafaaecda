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


def sequence(length: int, caller: str = "", priority: int = 1, first: int = 1) -> Sequence:
    return Sequence([first] + [2] * (length - 1), caller, priority)


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
    with pytest.raises(ValueError, match="16 tokens and 1 more need more than the 4 blocks"):
        it.add(sequence(16))
    assert it.is_idle
    it.check()


def test_an_answer_that_would_outgrow_the_pool_is_refused_at_once() -> None:
    it = scheduler(4)
    with pytest.raises(ValueError, match="6 tokens and 11 more"):
        it.add(Sequence([1] * 6, max_new_tokens=11))
    fits = Sequence([1] * 6, max_new_tokens=10)
    it.add(fits)
    for _ in range(10):
        step(it)
    assert fits.num_tokens == 16


@pytest.mark.parametrize("length", [0, 3])
def test_nothing_without_tokens_and_nothing_twice(length: int) -> None:
    it = scheduler()
    once = sequence(3)
    it.add(once)
    with pytest.raises(ValueError, match="added once"):
        it.add(once if length else Sequence([]))
    step(it)
    it.remove(once)
    assert it.is_idle


@pytest.mark.parametrize("tokens", [[], [1], [1, 1, 1]])
def test_a_step_with_other_tokens_than_it_sampled_changes_nothing(tokens: list[int]) -> None:
    it = scheduler()
    both = [sequence(3), sequence(3, first=5)]
    for each in both:
        it.add(each)
    plan = it.plan()
    with pytest.raises(ValueError, match="2 slices are sampled"):
        it.commit(plan, tokens)
    assert [(s.num_tokens, s.num_computed) for s in both] == [(3, 0), (3, 0)]


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
    for _ in range(12):
        step(it)
        if late.num_preemptions:
            break
    newcomer = sequence(2, "other", first=5)
    it.add(newcomer)
    for _ in range(6):
        step(it)
    assert late.num_preemptions
    assert not early.num_preemptions
    assert newcomer.num_tokens == 2, "it came before one that was preempted"
    it.remove(early)
    plan = step(it)
    assert plan.slices[0].sequence is late
    assert plan.slices[0].length + plan.slices[0].start == late.num_tokens - 1
    assert late.num_cached == 0, "what it computed itself is no gift of others"


def test_a_newcomer_waits_for_room_to_answer_in() -> None:
    it = scheduler(4)
    stream, newcomer = sequence(2), sequence(8, first=3)
    it.add(stream)
    step(it)
    it.add(newcomer)
    assert [part.sequence for part in step(it).slices] == [stream]
    it.remove(stream)
    assert [part.sequence for part in step(it).slices] == [newcomer]
