"""Documents as tokens, packed into rows of one length. Knows no tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from demo_corpus.documents import Part

NOT_LEARNED: Final = -100
"""The label of a token that is left out of the loss."""

NUM_WAITING: Final = 48


@dataclass(slots=True)
class Row:
    """Token ids, and for each of them the id or `NOT_LEARNED`."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, ids: list[int], *, is_learned: bool) -> None:
        """Append tokens."""
        self.ids += ids
        self.labels += ids if is_learned else [NOT_LEARNED] * len(ids)


def encode(parts: list[Part], tokenize: Callable[[str], list[int]]) -> Row:
    """A document's tokens; its parts are tokenized one by one, as a prompt and its answer are."""
    row = Row()
    for part in parts:
        row.add(tokenize(part.text), is_learned=part.is_learned)
    return row


class Packer:
    """Fills rows with whole documents, so that no answer loses the tools it is about.

    A row takes the oldest waiting document that fits, until none does. One that is longer than a
    row is left out.
    """

    def __init__(self, documents: Iterator[Row], padding_id: int) -> None:
        self._documents = documents
        self._padding_id = padding_id
        self._waiting: list[Row] = []

    def row(self, length: int) -> Row:
        """A row of exactly so many tokens."""
        row = Row()
        while (found := self._take(length - len(row.ids), length)) is not None:
            row.ids += found.ids
            row.labels += found.labels
        row.add([self._padding_id] * (length - len(row.ids)), is_learned=False)
        return row

    def _take(self, room: int, length: int) -> Row | None:
        while len(self._waiting) < NUM_WAITING:
            document = next(self._documents)
            if len(document.ids) <= length:
                self._waiting.append(document)
        for index, document in enumerate(self._waiting):
            if len(document.ids) <= room:
                return self._waiting.pop(index)
        return None
