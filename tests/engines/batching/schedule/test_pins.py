"""Prefixes that stay, as long as they may."""

from __future__ import annotations

from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence

BLOCK = 4


def scheduler(num_blocks: int) -> Scheduler:
    return Scheduler(
        num_blocks=num_blocks, block_size=BLOCK, max_tokens_per_step=32, max_sequences=4
    )


def sequence(length: int, first: int = 1, salt: str = "") -> Sequence:
    return Sequence([first] + [2] * (length - 1), cache_salt=salt)


def run(it: Scheduler, each: Sequence) -> tuple[int, ...]:
    """To its first token, and away; returns the prompt."""
    prompt = tuple(each.token_ids)
    it.add(each)
    while each.num_tokens == len(prompt):
        plan = it.plan()
        it.commit(plan, [7] * sum(part.is_sampled for part in plan.slices))
        it.check()
    it.remove(each)
    it.check()
    return prompt


def num_pinned(it: Scheduler) -> int:
    """Blocks; nothing runs."""
    assert it.is_idle
    return it.stats().blocks_used


def test_what_is_not_cached_cannot_be_pinned() -> None:
    it = scheduler(8)
    assert it.pin((1,) * 20) == 0
    it.check()


def test_less_than_a_block_cannot_be_pinned() -> None:
    it = scheduler(8)
    prompt = run(it, sequence(9))
    assert it.pin(prompt[:3]) == 0
    assert num_pinned(it) == 0


def test_a_pinned_prefix_outlives_what_comes_after() -> None:
    it = scheduler(10)
    prompt = run(it, sequence(13))
    assert it.pin(prompt) == 12
    assert num_pinned(it) == 3
    for first in (20, 21, 22):
        run(it, sequence(16, first))
    again = sequence(13)
    run(it, again)
    assert again.num_cached == 12


def test_pins_take_half_of_the_pool_at_most() -> None:
    it = scheduler(8)
    prompt = run(it, sequence(21))
    assert it.pin(prompt) == 0
    assert it.pin(prompt[:16]) == 16
    other = run(it, sequence(5, 9))
    assert it.pin(other[:4]) == 0
    assert num_pinned(it) == 4


def test_prefixes_that_begin_alike_share_their_blocks() -> None:
    it = scheduler(8)
    prompt = run(it, sequence(17))
    assert it.pin(prompt[:8]) == 8
    assert it.pin(prompt[:16]) == 16
    assert num_pinned(it) == 4
    assert it.pin(prompt[:8]) == 8  # again
    assert num_pinned(it) == 4
    run(it, sequence(24, 9))  # needs 7 of the 8 blocks: the longer, older pin is dropped
    assert num_pinned(it) == 0
    it.check()


def test_pins_are_dropped_for_a_request_that_needs_the_whole_pool() -> None:
    it = scheduler(8)
    prompt = run(it, sequence(17))
    assert it.pin(prompt[:16]) == 16
    run(it, sequence(30, 9))
    assert num_pinned(it) == 0


def test_the_oldest_pin_is_dropped_first() -> None:
    it = scheduler(8)
    old = run(it, sequence(9, 3))
    new = run(it, sequence(9, 4))
    assert it.pin(old[:8]) == 8
    assert it.pin(new[:8]) == 8
    run(it, sequence(20, 9))
    assert num_pinned(it) == 2
    again = sequence(9, 4)
    run(it, again)
    assert again.num_cached == 8


def test_a_stream_that_grows_alone_takes_the_place_of_pins() -> None:
    it = scheduler(8)
    prompt = run(it, sequence(17))
    assert it.pin(prompt[:16]) == 16
    growing = Sequence([9, 9], max_new_tokens=30)
    it.add(growing)
    for _ in range(30):
        plan = it.plan()
        it.commit(plan, [7] * len(plan.slices))
        it.check()
    assert growing.num_tokens == 32
    assert not growing.num_preemptions


def test_what_was_computed_under_a_salt_cannot_be_pinned() -> None:
    it = scheduler(8)
    prompt = run(it, sequence(9, salt="mine"))
    assert it.pin(prompt[:8]) == 0
    assert num_pinned(it) == 0
