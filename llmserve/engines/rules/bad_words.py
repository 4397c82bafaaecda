"""Sequences of tokens that an answer may not contain."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from llmserve.engines.rules.bits import as_ids, forbid
from llmserve.engines.token_rule import Words

if TYPE_CHECKING:
    from llmserve.text.tokenizer import Tokenizer

TokenSequence = tuple[int, ...]


def sequences_of(words: Sequence[str], tokenizer: Tokenizer) -> tuple[TokenSequence, ...]:
    """The tokens of each word by itself, after a space and after the beginning of a line.

    As in vLLM, which knows no beginnings of lines: where a tokenizer writes a space before every
    text (SentencePiece), a word without one is found nowhere else. Takes time in proportion to the
    words: call it off the event loop.
    """
    found = (ids for word in words for ids in _sequences(word, tokenizer))
    return tuple(dict.fromkeys(ids for ids in found if ids))


class BadWords:
    """The last token of a sequence may not come where the others were just generated.

    Other tokens may spell the same text: the sequences decide, as in vLLM and transformers. Where a
    step has nothing else to choose from, the ban gives way.
    """

    def __init__(self, sequences: Iterable[TokenSequence]) -> None:
        """Each has at least one token."""
        alone: list[int] = []
        # By the token that comes before the last one.
        self._longer: dict[int, list[TokenSequence]] = {}
        for sequence in sequences:
            if len(sequence) == 1:
                alone.append(sequence[0])
            else:
                self._longer.setdefault(sequence[-2], []).append(sequence)
        self._alone = tuple(alone)
        longest = max((len(s) for group in self._longer.values() for s in group), default=1)
        self._tail: deque[int] = deque(maxlen=longest - 1)

    @property
    def is_idle(self) -> bool:
        """Whether no sequence is about to be completed."""
        return not self._alone and next(self._completing(), None) is None

    def restrict(self, words: Words) -> None:
        """Forbid every token that would complete a sequence."""
        before = words.copy()
        forbid(words, as_ids((*self._alone, *self._completing())))
        if not words.any():
            words[:] = before

    def accept(self, token_id: int) -> None:
        """The next token was chosen."""
        self._tail.append(token_id)

    def _completing(self) -> Iterator[int]:
        """The last tokens of longer sequences whose others were just generated."""
        if not self._tail:
            return
        tail = tuple(self._tail)
        for sequence in self._longer.get(tail[-1], ()):
            if tail[-len(sequence) + 1 :] == sequence[:-1]:
                yield sequence[-1]


def _sequences(word: str, tokenizer: Tokenizer) -> Iterator[TokenSequence]:
    bare = word.lstrip(" ") or word
    yield tuple(tokenizer.encode_bare(bare))
    yield tuple(tokenizer.encode_bare(f" {bare}"))
    line = tokenizer.encode_bare("\n")
    ids = tokenizer.encode_bare(f"\n{bare}")
    if ids[: len(line)] == line:
        yield tuple(ids[len(line) :])
