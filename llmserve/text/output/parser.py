"""What every output parser is, and the one for models whose text is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llmserve.domain import Delta, Terminal


class OutputParser(Protocol):
    """Reads one generation's text, delta by delta. Owned by the event loop."""

    def feed(self, delta: Delta) -> Sequence[Delta]:
        """What is certain by now: none, one or several deltas, in order."""
        ...

    def flush(self) -> Sequence[Delta]:
        """What was held back; the generation is over, however it ended."""
        ...

    def conclude(self, terminal: Terminal) -> Terminal:
        """The terminal event, after `flush`, with what only a reader of the text knows: that the
        answer ended with tool calls, and how many of its tokens were reasoning."""
        ...


class IdentityParser:
    """The text is the answer."""

    def feed(self, delta: Delta) -> Sequence[Delta]:
        """The delta itself."""
        return (delta,)

    def flush(self) -> Sequence[Delta]:
        """Nothing is held back."""
        return ()

    def conclude(self, terminal: Terminal) -> Terminal:
        """The event itself."""
        return terminal
