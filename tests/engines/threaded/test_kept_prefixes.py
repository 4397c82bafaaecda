"""Which pinned prefixes are kept, and which one a prompt takes."""

from __future__ import annotations

import pytest

from llmserve.engines.threaded.pinned_prefixes import (
    Pinned,
    PinnedPrefixes,
    PrefixRefused,
)

pytestmark = pytest.mark.usefixtures("no_thread_left")


def pinned(*token_ids: int, num_bytes: int = 1) -> Pinned:
    return Pinned(token_ids, None, num_bytes)


def test_a_prompt_must_go_on_after_the_prefix() -> None:
    assert pinned(1, 2).begins([1, 2, 3])
    assert not pinned(1, 2).begins([1, 2])
    assert not pinned(1, 2).begins([1])
    assert not pinned(1, 2).begins([2, 2, 3])


def test_the_longest_match_wins_and_a_prompt_that_is_one_takes_the_next_shorter() -> None:
    prefixes = PinnedPrefixes()
    assert prefixes.longest_match([1, 2, 3]) is None
    prefixes.add(pinned(1))
    prefixes.add(pinned(1, 2))
    assert prefixes.longest_match([1, 2, 3]) == pinned(1, 2)
    assert prefixes.longest_match([1, 2]) == pinned(1)
    assert prefixes.longest_match([1]) is None


def test_the_one_pinned_longest_ago_goes_and_use_does_not_count() -> None:
    prefixes = PinnedPrefixes(max_prefixes=2)
    prefixes.add(pinned(1))
    prefixes.add(pinned(2))
    assert prefixes.longest_match([1, 9]) == pinned(1)
    prefixes.add(pinned(3))
    assert (1,) not in prefixes
    assert prefixes.renew((2,))
    assert not prefixes.renew((1,))
    prefixes.add(pinned(4))
    assert (2,) in prefixes
    assert (3,) not in prefixes


def test_bytes_are_counted_and_bounded() -> None:
    prefixes = PinnedPrefixes(max_bytes=10)
    prefixes.add(pinned(1, num_bytes=4))
    prefixes.add(pinned(1, num_bytes=5))
    assert prefixes.num_bytes == 5, "the same prefix again takes its own place"
    prefixes.add(pinned(2, num_bytes=5))
    assert prefixes.num_bytes == 10
    with pytest.raises(PrefixRefused, match="11 bytes; at most 16 prefixes and 10 bytes"):
        prefixes.add(pinned(3, num_bytes=11))
    assert (1,) in prefixes
    prefixes.add(pinned(4, num_bytes=6))
    assert ((1,) in prefixes, (2,) in prefixes, prefixes.num_bytes) == (False, False, 6)
    prefixes.clear()
    assert prefixes.num_bytes == 0
