"""What of a prompt is found, and by whom."""

from __future__ import annotations

import itertools
from array import array

import pytest

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.prefix_cache import PrefixCache, _root
from llmserve.engines.batching.schedule.sequence import Sequence

BLOCK = 4


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(16)


@pytest.fixture
def cache(pool: BlockPool) -> PrefixCache:
    return PrefixCache(pool, BLOCK)


def sequence(token_ids: list[int], salt: str = "") -> Sequence:
    return Sequence(token_ids, cache_salt=salt)


def computed(pool: BlockPool, cache: PrefixCache, it: Sequence) -> Sequence:
    it.blocks = [pool.allocate() for _ in range(-(-it.num_tokens // BLOCK))]
    it.num_computed = it.num_tokens
    cache.register(it, 0)
    return it


def test_nothing_is_found_before_anything_was_computed(cache: PrefixCache) -> None:
    assert cache.match(sequence([1] * 9)) == []
    assert cache.blocks(cache.hashes((1,) * 9)) == []


def test_whole_blocks_are_found_and_the_last_token_is_left(
    pool: BlockPool, cache: PrefixCache
) -> None:
    first = computed(pool, cache, sequence([1] * 11))
    for length, expected in ((4, 0), (5, 1), (8, 1), (9, 2), (12, 2), (20, 2)):
        assert cache.match(sequence([1] * length)) == first.blocks[:expected], length


def test_a_pinned_prefix_is_found_to_its_last_whole_block(
    pool: BlockPool, cache: PrefixCache
) -> None:
    first = computed(pool, cache, sequence([1] * 8))
    assert cache.blocks(cache.hashes((1,) * 8)) == first.blocks
    assert cache.blocks(cache.hashes((1,) * 7)) == first.blocks[:1]


def test_the_same_block_after_another_beginning_is_another_block(
    pool: BlockPool, cache: PrefixCache
) -> None:
    computed(pool, cache, sequence([1, 1, 1, 1, 2, 2, 2, 2]))
    assert cache.match(sequence([2, 2, 2, 2, 9])) == []
    assert cache.match(sequence([3, 3, 3, 3, 2, 2, 2, 2, 9])) == []


def test_a_block_that_is_gone_ends_the_chain(pool: BlockPool, cache: PrefixCache) -> None:
    first = computed(pool, cache, sequence(list(range(12))))
    begin, middle, end = first.blocks
    pool.release(middle)
    others = [pool.allocate() for _ in range(pool.num_free)]
    assert middle in others
    assert cache.match(sequence([*range(12), 0])) == [begin]
    again = sequence(list(range(12)))
    again.blocks = [begin, others[0], others[1]]
    again.num_computed = 12
    cache.register(again, 4)
    assert cache.match(sequence([*range(12), 0])) == [begin, others[0], end]


def test_blocks_are_cached_when_they_become_full(pool: BlockPool, cache: PrefixCache) -> None:
    it = sequence([5] * 9)
    it.blocks = [pool.allocate() for _ in range(3)]
    for before, after, expected in ((0, 3, 0), (3, 4, 1), (4, 7, 1), (7, 9, 2)):
        it.num_computed = after
        cache.register(it, before)
        assert cache.blocks(cache.hashes((5,) * 12)) == it.blocks[:expected]


def test_answers_are_found_by_who_goes_on_with_them(pool: BlockPool, cache: PrefixCache) -> None:
    it = sequence([5] * 3)
    it.blocks = [pool.allocate() for _ in range(2)]
    it.token_ids += [6] * 5
    it.num_computed = 8
    cache.register(it, 0)
    assert cache.match(sequence([5, 5, 5, 6, 6, 6, 6, 6, 7])) == it.blocks


def test_another_salt_finds_nothing(pool: BlockPool, cache: PrefixCache) -> None:
    salted = computed(pool, cache, sequence([1] * 9, "mine"))
    assert cache.match(sequence([1] * 9, "mine")) == salted.blocks[:2]
    for other in ("", "min", "yours"):
        assert cache.match(sequence([1] * 9, other)) == []
    assert cache.blocks(cache.hashes((1,) * 8)) == [], "what is found without a salt has none"


@pytest.mark.parametrize("salt", ["\ud800", "\U0001f512", "\0", "a\udfff"])
def test_any_string_is_a_salt_of_its_own(pool: BlockPool, cache: PrefixCache, salt: str) -> None:
    salted = computed(pool, cache, sequence([1] * 9, salt))
    assert cache.match(sequence([1] * 9, salt)) == salted.blocks[:2]
    for other in ("", "?", "\ufffd", salt + "\0", "\ud83d\udd12"):
        assert cache.match(sequence([1] * 9, other)) == []


def test_no_salt_opens_the_middle_of_somebody_elses_chain(
    pool: BlockPool, cache: PrefixCache
) -> None:
    # A salt is text: these are a root and a block's hash that happen to be text, too.
    root_salt = next(salt for salt in map(str, itertools.count()) if _text(_root(salt)))
    begin = array("q", [1] * BLOCK).tobytes()  # a root and this make the first block's hash
    salted = computed(pool, cache, sequence([1] * 12, root_salt))
    plain = next(
        it
        for token in itertools.count()
        if _text((it := hashed(cache, sequence([token] * 12))).block_hashes[0])
    )
    computed(pool, cache, plain)
    first = _text(plain.block_hashes[0])
    within = _text(_root(root_salt) + begin)
    assert first
    assert within
    assert _root(first) != plain.block_hashes[0]
    assert cache.match(sequence(plain.token_ids[BLOCK:], first)) == []
    assert _root(within) != salted.block_hashes[0]
    assert cache.match(sequence([1] * 9, within)) == []


def hashed(cache: PrefixCache, it: Sequence) -> Sequence:
    cache.match(it)
    return it


def _text(content: bytes) -> str:
    """The string with this encoding, if there is one."""
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return ""


def test_large_token_ids_are_told_apart(pool: BlockPool, cache: PrefixCache) -> None:
    computed(pool, cache, sequence([1, 256, 70_000, 2**31, 0]))
    assert cache.match(sequence([1, 256, 70_000, 2**31, 0])) != []
    for index, token in ((1, 0), (2, 70_000 - 65_536), (3, 2**31 + 2**32)):
        other = [1, 256, 70_000, 2**31, 0]
        other[index] = token
        assert cache.match(sequence(other)) == []
