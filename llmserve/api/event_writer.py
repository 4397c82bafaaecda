"""What a dialect must be able to write. Knows no dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from llmserve.domain import Event, Usage
from llmserve.service import Answer


class EventWriter(Protocol):
    """Writes the answer to one request, whose generations are numbered from 0.

    An answer is either streamed (`frames`, then `end`) or not (`whole`).
    """

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        """The frames for one event of a generation, errors and other terminal events included."""
        ...

    def end(self, usages: Sequence[Usage]) -> Iterator[bytes]:
        """The frames after the terminal events of all generations, whose usages these are."""
        ...

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any] | list[dict[str, Any]]:
        """The body of an answer that is not streamed, from the answers of all generations."""
        ...
