"""Keeps what prompts were scored with, so that their beginnings need not be computed again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from llmserve.engines.batching.schedule.prefix_cache import PrefixCache
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.scores import Scores

KEPT_BYTES: Final = 64 * 2**20
"""For about a million tokens with one alternative each, in blocks of 16."""
ENTRY_BYTES: Final = 1024
"""What an entry takes beside its numbers: five arrays, and its place in the table."""


class ScoreCache:
    """The scores of full blocks of prompts, by the hashes of the prefix cache, least recently used
    first. They are there whether or not the block itself still is.

    A token's score depends on it and on what comes before: on what the hash of its block says.

        block 0             block 1             block 2
        t0 t1 t2 t3         t4 t5 t6 t7         t8 t9 …
           s1 s2 s3         s4 s5 s6 s7         ?              kept: blocks 0 and 1

    s8 belongs to block 2, and comes from the logits of position 7. So a sequence for which two
    blocks of scores are found computes from position 4 on: it shares only one block.
    """

    def __init__(self, cache: PrefixCache, block_size: int, most_bytes: int = KEPT_BYTES) -> None:
        self._cache = cache
        self._block_size = block_size
        self._most_bytes = most_bytes
        self._num_bytes = 0
        self._kept: OrderedDict[bytes, Scores] = OrderedDict()

    def find(self, sequence: Sequence) -> None:
        """Set what is known of a prompt that never ran: `Scoring.found` and `num_scored`."""
        scoring = sequence.scoring
        if scoring is None or sequence.num_preemptions:
            return
        count = sequence.num_tokens // self._block_size
        self._cache.extend_hashes(sequence, count)
        scoring.found = []
        for content in sequence.block_hashes[:count]:
            known = self._kept.get(content)
            if known is None or known.num_top < scoring.num_top:
                break
            self._kept.move_to_end(content)
            scoring.found.append(known)
        scoring.num_scored = max(0, len(scoring.found) * self._block_size - 1)

    def keep(self, sequence: Sequence, scores: Scores) -> None:
        """Those of the tokens up to and including the one at `Scoring.num_scored`."""
        scoring = sequence.scoring
        assert scoring is not None, "a sequence without scores has none to keep"
        if scoring.unkept is not None:
            scores = scoring.unkept + scores
        end = scoring.num_scored + 1
        first, place = end - len(scores), 0
        self._cache.extend_hashes(sequence, end // self._block_size)
        for block in range(first // self._block_size, end // self._block_size):
            stop = (block + 1) * self._block_size - first
            self._put(sequence.block_hashes[block], scores, place, stop)
            place = stop
        scoring.unkept = None if scoring.is_over else scores.part(place, len(scores))

    def _put(self, content: bytes, scores: Scores, start: int, stop: int) -> None:
        known = self._kept.pop(content, None)
        if known is not None:
            self._num_bytes -= known.num_bytes + ENTRY_BYTES
        if known is None or known.num_top < scores.num_top:
            known = scores.part(start, stop)
        self._kept[content] = known
        self._num_bytes += known.num_bytes + ENTRY_BYTES
        while self._num_bytes > self._most_bytes:
            _, evicted = self._kept.popitem(last=False)
            self._num_bytes -= evicted.num_bytes + ENTRY_BYTES
