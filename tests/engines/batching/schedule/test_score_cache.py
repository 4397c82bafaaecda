"""What is kept of scored prompts: whole blocks, by what they depend on, and not too much."""

from __future__ import annotations

from array import array

import pytest

from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.prefix_cache import PrefixCache
from llmserve.engines.batching.schedule.score_cache import ENTRY_BYTES, ScoreCache
from llmserve.engines.batching.schedule.scoring import Scoring
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.scores import Scores

BLOCK = 4


def cache(most_bytes: int = 2**20) -> ScoreCache:
    return ScoreCache(PrefixCache(BlockPool(16), BLOCK), BLOCK, most_bytes)


def sequence(token_ids: list[int], num_top: int = 0, salt: str = "") -> Sequence:
    scoring = Scoring(num_top, len(token_ids) - 1)
    return Sequence(token_ids, cache_salt=salt, scoring=scoring)


def scores(first: int, stop: int, num_top: int) -> Scores:
    """Token i has the log probability -i."""
    count = stop - first
    numbers = array("i", range(first, stop))
    top = array("i", [0] * count * num_top)
    values = array("f", [0.0] * count * num_top)
    return Scores(num_top, numbers, array("f", [-i for i in numbers]), numbers, top, values)


def keep(cache: ScoreCache, it: Sequence, *stops: int) -> None:
    """The sequence is scored in pieces that end after these positions."""
    scoring = it.scoring
    assert scoring is not None
    for stop in stops:
        start, scoring.num_scored = scoring.num_scored, stop
        cache.keep(it, scores(start + 1, stop + 1, scoring.num_top))


def found(cache: ScoreCache, it: Sequence) -> list[int]:
    """The tokens of the prompt whose scores are known."""
    assert it.scoring is not None
    cache.find(it)
    known = [-int(one.logprob) for part in it.scoring.take_found() for one in part.tokens(0)]
    assert it.scoring.num_scored == len(known)
    return known


@pytest.mark.parametrize("stops", [(10,), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10), (3, 7, 10), (2, 6, 10)])
def test_full_blocks_are_kept_however_they_were_cut(stops: tuple[int, ...]) -> None:
    kept = cache()
    keep(kept, sequence(list(range(11))), *stops)
    assert found(kept, sequence([*range(8), 99])) == [1, 2, 3, 4, 5, 6, 7]
    assert found(kept, sequence(list(range(8)))) == [1, 2, 3, 4, 5, 6, 7]
    assert found(kept, sequence(list(range(7)))) == [1, 2, 3]
    assert found(kept, sequence([*range(5), 99, 6, 7])) == [1, 2, 3]
    assert found(kept, sequence([99, *range(1, 8)])) == []


def test_another_salt_finds_nothing() -> None:
    kept = cache()
    keep(kept, sequence(list(range(8)), salt="mine"), 7)
    assert found(kept, sequence(list(range(8)), salt="mine")) != []
    assert found(kept, sequence(list(range(8)))) == []


def test_who_wants_more_of_the_likeliest_finds_nothing_and_leaves_more() -> None:
    kept = cache()
    keep(kept, sequence(list(range(8)), num_top=1), 7)
    assert found(kept, sequence(list(range(8)), num_top=2)) == []
    keep(kept, sequence(list(range(8)), num_top=2), 7)
    assert found(kept, sequence(list(range(8)), num_top=2)) == [1, 2, 3, 4, 5, 6, 7]
    keep(kept, sequence(list(range(8)), num_top=0), 7)
    assert found(kept, sequence(list(range(8)), num_top=2)) != [], "nobody keeps less"


def test_a_preempted_prompt_goes_on_where_it_was() -> None:
    kept = cache()
    keep(kept, sequence(list(range(12))), 11)
    it = sequence(list(range(12)))
    it.num_preemptions = 1
    kept.find(it)
    assert it.scoring is not None
    assert (it.scoring.num_scored, it.scoring.found) == (0, [])


def test_the_least_recently_used_blocks_make_room() -> None:
    block = ENTRY_BYTES + 12 * BLOCK
    kept = cache(most_bytes=4 * block)
    first, second = list(range(9)), [*range(4), *range(50, 55)]
    keep(kept, sequence(first), 8)
    keep(kept, sequence(second), 8)
    assert len(found(kept, sequence(first))) == 7
    keep(kept, sequence([*range(4), *range(70, 79)]), 12)
    assert len(found(kept, sequence(first))) == 7, "it was used last"
    assert len(found(kept, sequence(second))) == 3, "its second block is gone, its first in use"
    keep(kept, sequence([100 + i for i in range(40)]), 39)
    assert found(kept, sequence(first)) == []
