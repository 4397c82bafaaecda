"""White space around delimiters belongs to the syntax, not to what the model says."""

from __future__ import annotations

from collections.abc import Callable


class Trimmed:
    """Passes text on without the white space next to delimiters.

    Dropped is what follows a delimiter (`after`) and what precedes one (`drop`). White space that
    no delimiter has followed yet is held back, and passed on if other text or the end follows.
    """

    def __init__(self, emit: Callable[[str], None], *, is_fresh: bool = False) -> None:
        """`is_fresh`: a delimiter came just before."""
        self._emit = emit
        self._held: list[str] = []
        self._is_fresh = is_fresh

    def add(self, text: str) -> None:
        """The next text."""
        if self._is_fresh:
            text = text.lstrip()
            if not text:
                return
            self._is_fresh = False
        body = text.rstrip()
        if body:
            self._emit("".join(self._held) + body)
            self._held.clear()
        if len(body) < len(text):
            self._held.append(text[len(body) :])

    def drop(self) -> None:
        """A delimiter came."""
        self._held.clear()
        self._is_fresh = True

    def flush(self) -> None:
        """The text is over."""
        if self._held:
            self._emit("".join(self._held))
            self._held.clear()
