"""Pinned prefixes: KV caches of prompt beginnings that many requests share.

Torch's caches are opaque here: whoever makes them says how large they are and how to copy them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_PREFIXES: Final = 16


@dataclass(frozen=True, slots=True)
class Pinned:
    """A prefix and its cache, which is copied for each use and never written to."""

    token_ids: tuple[int, ...]
    cache: Any
    num_bytes: int

    def begins(self, prompt_ids: Sequence[int]) -> bool:
        """Whether a prompt starts with it and has at least one token more, for prefill to do."""
        length = len(self.token_ids)
        return length < len(prompt_ids) and tuple(prompt_ids[:length]) == self.token_ids


class PinnedPrefixes:
    """At most so many; the one that was not used for longest goes first. For any thread."""

    def __init__(self, max_prefixes: int = MAX_PREFIXES) -> None:
        self._max_prefixes = max_prefixes
        self._lock = threading.Lock()
        self._pinned: OrderedDict[tuple[int, ...], Pinned] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        """Memory of all caches."""
        with self._lock:
            return sum(pinned.num_bytes for pinned in self._pinned.values())

    def add(self, pinned: Pinned) -> None:
        """Keep one, in the place of an older one if need be."""
        with self._lock:
            self._pinned[pinned.token_ids] = pinned
            self._pinned.move_to_end(pinned.token_ids)
            while len(self._pinned) > self._max_prefixes:
                self._pinned.popitem(last=False)

    def longest_match(self, prompt_ids: Sequence[int]) -> Pinned | None:
        """The longest prefix that a prompt begins with."""
        with self._lock:
            matches = [pinned for pinned in self._pinned.values() if pinned.begins(prompt_ids)]
            if not matches:
                return None
            best = max(matches, key=lambda pinned: len(pinned.token_ids))
            self._pinned.move_to_end(best.token_ids)
            return best

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._pinned.clear()


def common_beginning(encoded: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that several prompts begin with."""
    shared = 0
    for column in zip(*encoded, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return tuple(encoded[0][:shared])
