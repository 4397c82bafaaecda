"""Prefixes that stay, as long as they may."""

from __future__ import annotations

from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence

BLOCK = 4


def scheduler(num_blocks: int) -> Scheduler:
    return Scheduler(
        num_blocks=num_blocks, block_size=BLOCK, max_tokens_per_step=32, max_sequences=4
    )


def sequence(length: int, first: int = 1, salt: bytes = b"") -> Sequence:
    return Sequence([first] + [2] * (length - 1), length, salt=salt)


def run(it: Scheduler, each: Sequence) -> Sequence:
    """To its first token, and away."""
    it.add(each)
    while each.num_tokens == each.num_prompt:
        plan = it.plan()
        it.commit(plan, [7] * sum(part.is_sampled for part in plan.slices))
        it.check()
    it.remove(each)
    it.check()
    return each


def test_what_is_not_there_cannot_be_pinned_nor_let_go() -> None:
    it = scheduler(8)
    assert it.pin([1] * 20) == 0
    it.unpin([1] * 20)
    it.check()


def test_less_than_a_block_cannot_be_pinned() -> None:
    it = scheduler(8)
    prefix = run(it, sequence(9))
    assert it.pin(prefix.token_ids[:3]) == 0
    assert it.stats().blocks_pinned == 0


def test_a_pinned_prefix_outlives_what_comes_after() -> None:
    it = scheduler(10)
    prefix = run(it, sequence(13)).token_ids[:13]
    assert it.pin(prefix) == 12
    assert it.stats().blocks_pinned == 3
    for first in (20, 21, 22):
        run(it, sequence(16, first))
    assert run(it, sequence(13)).num_cached == 12
    it.unpin(prefix)
    it.unpin(prefix)
    assert it.stats().blocks_used == 0


def test_pins_take_half_of_the_pool_at_most() -> None:
    it = scheduler(8)
    prefix = run(it, sequence(21)).token_ids
    assert it.pin(prefix) == 0
    assert it.pin(prefix[:16]) == 16
    other = run(it, sequence(5, 9)).token_ids
    assert it.pin(other[:4]) == 0
    assert it.stats().blocks_pinned == 4


def test_prefixes_that_begin_alike_are_counted_once_and_let_go_one_by_one() -> None:
    it = scheduler(8)
    prefix = run(it, sequence(17)).token_ids
    assert it.pin(prefix[:8]) == 8
    assert it.pin(prefix[:16]) == 16
    assert it.stats().blocks_pinned == 4
    it.unpin(prefix[:16])
    assert it.stats().blocks_pinned == 2
    assert it.pin(prefix[:8]) == 8  # again
    it.unpin(prefix[:8])
    assert it.stats().blocks_pinned == 0
    it.check()


def test_pins_give_way_to_a_request_that_needs_the_whole_pool() -> None:
    it = scheduler(8)
    prefix = run(it, sequence(17)).token_ids
    assert it.pin(prefix[:16]) == 16
    run(it, sequence(30, 9))
    assert it.stats().blocks_pinned == 0


def test_the_oldest_pin_gives_way_first() -> None:
    it = scheduler(8)
    old = run(it, sequence(9, 3)).token_ids
    new = run(it, sequence(9, 4)).token_ids
    assert it.pin(old[:8]) == 8
    assert it.pin(new[:8]) == 8
    run(it, sequence(20, 9))
    assert it.stats().blocks_pinned == 2
    assert run(it, sequence(9, 4)).num_cached == 8


def test_a_stream_that_grows_alone_takes_the_place_of_pins() -> None:
    it = scheduler(8)
    prefix = run(it, sequence(17)).token_ids
    assert it.pin(prefix[:16]) == 16
    growing = Sequence([9, 9], 2, max_new_tokens=30)
    it.add(growing)
    for _ in range(30):
        plan = it.plan()
        it.commit(plan, [7] * len(plan.slices))
        it.check()
    assert growing.num_tokens == 32
    assert not growing.preemptions


def test_a_pin_is_of_its_salt() -> None:
    it = scheduler(8)
    prefix = run(it, sequence(9, salt=b"mine")).token_ids[:8]
    assert it.pin(prefix) == 0
    assert it.pin(prefix, b"mine") == 8
    it.unpin(prefix)
    assert it.stats().blocks_pinned == 2
    it.unpin(prefix, b"mine")
    assert it.stats().blocks_used == 0
