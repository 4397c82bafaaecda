"""Stop strings: found across deltas, with no more text held back than needed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Screened:
    """Text that is safe to emit, and the stop string that ended it, if one did."""

    text: str
    matched: str | None = None


class StopMatcher:
    """Screens a stream of text for stop strings.

    The match that ends first wins (the longest of those), so the outcome does not depend on
    how the text was cut into pieces. Only a suffix that is a proper prefix of a stop string
    is held back. The match itself is not emitted, unless it `is_kept`.
    """

    def __init__(self, stop_strings: tuple[str, ...] = (), *, is_kept: bool = False) -> None:
        self._stop_strings = stop_strings
        self._is_kept = is_kept
        self._held = ""

    def feed(self, text: str) -> Screened:
        """Add text; returns what may be emitted now. Must not be called after a match."""
        if not self._stop_strings:
            return Screened(text)
        buffer = self._held + text
        match = self._first_match(buffer)
        if match is not None:
            self._held = ""
            start, stop_string = match
            end = start + len(stop_string) if self._is_kept else start
            return Screened(buffer[:end], stop_string)
        keep = max(_overlap(buffer, stop_string) for stop_string in self._stop_strings)
        cut = len(buffer) - keep
        self._held = buffer[cut:]
        return Screened(buffer[:cut])

    def flush(self) -> str:
        """The text has ended: returns what was held back, which was not a stop string after all."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, buffer: str) -> tuple[int, str] | None:
        found = (
            (start + len(stop_string), start, stop_string)
            for stop_string in self._stop_strings
            if (start := buffer.find(stop_string)) >= 0
        )
        best = min(found, default=None)
        return None if best is None else best[1:]


def _overlap(text: str, stop_string: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop_string`."""
    for length in range(min(len(stop_string) - 1, len(text)), 0, -1):
        if text.endswith(stop_string[:length]):
            return length
    return 0
