"""White space around delimiters belongs to the syntax, not to what the model says."""

from __future__ import annotations

from collections.abc import Callable


class Trimmed:
    """Passes text on without the white space next to delimiters.

    White space that no delimiter has followed yet is held back, and passed on if other text or the
    end follows. Between two texts with calls between them, that of the second one is kept.
    """

    def __init__(self, emit: Callable[[str], None], *, is_fresh: bool = False) -> None:
        """`is_fresh`: a delimiter came just before."""
        self._emit = emit
        self._held: list[str] = []
        self._gap: list[str] = []
        self._is_fresh = is_fresh
        self._keeps_gap = self._has_text = False

    def add(self, text: str) -> None:
        """The next text."""
        if self._is_fresh:
            stripped = text.lstrip()
            if self._keeps_gap:
                self._gap.append(text[: len(text) - len(stripped)])
            if not stripped:
                return
            text = stripped
            self._held, self._gap = self._gap, []
            self._is_fresh = False
        body = text.rstrip()
        if body:
            self._emit("".join(self._held) + body)
            self._held.clear()
            self._has_text = True
        if len(body) < len(text):
            self._held.append(text[len(body) :])

    def drop(self, *, is_inside: bool = False) -> None:
        """A delimiter came. `is_inside`: what it belongs to stands within the text."""
        self._held.clear()
        self._gap.clear()
        self._is_fresh = True
        self._keeps_gap = is_inside and self._has_text

    def flush(self) -> None:
        """The text is over."""
        if self._held:
            self._emit("".join(self._held))
            self._held.clear()
