"""Who holds which block, and which is given out next."""

from __future__ import annotations

import pytest

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.invariant import InvariantViolated


def test_an_empty_pool_gives_nothing_out() -> None:
    pool = BlockPool(2)
    held = [pool.allocate(), pool.allocate()]
    assert pool.num_free == 0
    with pytest.raises(KeyError):
        pool.allocate()
    pool.check([held])


def test_a_shared_block_is_free_when_the_last_lets_go() -> None:
    pool = BlockPool(2)
    block = pool.allocate()
    pool.touch(block)
    pool.release(block)
    assert pool.is_held(block)
    assert pool.num_free == 1
    pool.release(block)
    assert not pool.is_held(block)
    assert pool.num_free == 2
    pool.check([])


def test_blocks_without_a_hash_are_given_out_first() -> None:
    pool = BlockPool(3)
    named, blank, other = (pool.allocate() for _ in range(3))
    pool.cache(named, b"named")
    for block in (named, blank, other):
        pool.release(block)
    assert {pool.allocate(), pool.allocate()} == {blank, other}
    assert pool.find(b"named") == named


def test_the_least_recently_used_block_is_evicted_first() -> None:
    pool = BlockPool(3)
    blocks = [pool.allocate() for _ in range(3)]
    for block, name in zip(blocks, (b"a", b"b", b"c"), strict=True):
        pool.cache(block, name)
        pool.release(block)
    pool.touch(blocks[0])  # used again, so the latest
    pool.release(blocks[0])
    taken = pool.allocate()
    assert taken == blocks[1]
    assert pool.find(b"b") is None
    assert (pool.find(b"a"), pool.find(b"c")) == (blocks[0], blocks[2])
    pool.check([[taken]])


def test_a_free_block_that_is_found_again_is_given_to_nobody_else() -> None:
    pool = BlockPool(2)
    block = pool.allocate()
    pool.cache(block, b"a")
    pool.release(block)
    pool.touch(block)
    assert pool.allocate() != block
    assert pool.num_free == 0


def test_of_two_blocks_with_the_same_content_the_first_is_found() -> None:
    pool = BlockPool(2)
    first, second = pool.allocate(), pool.allocate()
    pool.cache(first, b"a")
    pool.cache(second, b"a")
    pool.release(second)
    assert pool.find(b"a") == first
    pool.check([[first]])


def test_the_check_sees_a_reference_too_many_and_one_too_few() -> None:
    pool = BlockPool(2)
    block = pool.allocate()
    for holders in ([], [[block, block]]):
        with pytest.raises(InvariantViolated, match="reference counts"):
            pool.check(holders)
    for other in (2, -1):
        with pytest.raises(InvariantViolated, match="does not exist"):
            pool.check([[block], [other]])


def test_the_check_sees_a_block_that_is_lost_and_one_that_is_free_twice() -> None:
    pool = BlockPool(3)
    lost = pool._free.pop()
    with pytest.raises(InvariantViolated, match="lost"):
        pool.check([])
    pool._free += [lost, lost]
    with pytest.raises(InvariantViolated, match="free twice"):
        pool.check([])
    pool._free[-2:] = [99]
    with pytest.raises(InvariantViolated, match="does not exist"):
        pool.check([])


def test_the_check_sees_a_hash_that_leads_elsewhere() -> None:
    pool = BlockPool(2)
    blocks = [pool.allocate(), pool.allocate()]
    pool.cache(blocks[0], b"a")
    pool._by_hash[b"a"] = blocks[1]
    with pytest.raises(InvariantViolated, match="wrong block"):
        pool.check([blocks])
    del pool._by_hash[b"a"]
    with pytest.raises(InvariantViolated, match="hash is lost"):
        pool.check([blocks])
