"""What every output parser is, and the one for models whose text is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llmserve.domain import Delta


class OutputParser(Protocol):
    """Reads one generation's text, delta by delta. Owned by the event loop."""

    def feed(self, delta: Delta) -> Sequence[Delta]:
        """What is certain by now: none, one or several deltas, in order."""
        ...

    def flush(self) -> Sequence[Delta]:
        """What was held back; the generation is over, however it ended."""
        ...


class IdentityParser:
    """The text is the answer."""

    def feed(self, delta: Delta) -> Sequence[Delta]:
        """The delta itself."""
        return (delta,)

    def flush(self) -> Sequence[Delta]:
        """Nothing is held back."""
        return ()
