"""The text of an answer as it comes, for readers that are written as generators.

A reader is straight code that says what comes next; where it needs text that is not there yet, it
yields, and goes on when there is more. What was read is dropped, so that reading takes time in
proportion to the text, and what a reader decides does not depend on how the text was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]

WINDOW: Final = 1024
"""Characters that a pattern may take: no name, key or run of spaces between delimiters is longer.
It bounds what is held back, and what is searched again with every delta."""


class Marks:
    """Literal delimiters that are looked for together; none of them begins with another."""

    def __init__(self, literals: Sequence[str]) -> None:
        self.literals = tuple(dict.fromkeys(literals))
        alternatives = "|".join(map(re.escape, self.literals))
        self._pattern = re.compile(alternatives or "(?!)")
        self._first = re.compile(
            "|".join(sorted({re.escape(m[0]) for m in self.literals})) or "(?!)"
        )
        self._longest = max(map(len, self.literals), default=1)

    def search(self, text: str, start: int) -> re.Match[str] | None:
        """The first delimiter that is complete."""
        return self._pattern.search(text, start)

    def held(self, text: str, start: int) -> int:
        """How many characters at the end may be the beginning of a delimiter."""
        for first in self._first.finditer(text, max(start, len(text) - self._longest + 1)):
            tail = text[first.start() :]
            if any(literal.startswith(tail) for literal in self.literals):
                return len(tail)
        return 0


class Source:
    """The text that no reader has taken yet. Owned by the event loop."""

    def __init__(self) -> None:
        self.is_over = False
        self._text = ""
        self._start = 0
        self._recorded: list[str] | None = None

    def add(self, text: str) -> None:
        """Text that the model wrote."""
        self._text = self._text[self._start :] + text
        self._start = 0

    def give_back(self, text: str) -> None:
        """Text that is to be read (again), before all other."""
        self.add("")
        self._text = text + self._text

    def record(self, begun: str = "") -> None:
        """Keep what is taken from here on, after what was `begun`."""
        self._recorded = [begun]

    def forget(self) -> None:
        """What was recorded has been understood."""
        self._recorded = None

    def recorded(self) -> str:
        """What was taken since `record`, nothing after `forget`; the record ends."""
        text = "".join(self._recorded or ())
        self._recorded = None
        return text

    def take(self, end: int) -> str:
        """The text up to this index of `window`'s text."""
        taken = self._text[self._start : end]
        self._start = end
        if self._recorded is not None:
            self._recorded.append(taken)
        return taken

    def window(self) -> tuple[str, int]:
        """A text, and the index in it from which on nothing has been taken."""
        return self._text, self._start

    def match(self, pattern: Any, *, even_cut: bool = False) -> Steps[Any]:
        """The match of a pattern of the `regex` package that begins here, taken; else `None`.

        A pattern should end in something that more text cannot lengthen. `even_cut`: its beginning
        is a match, too, if the text is over after it.
        """
        while True:
            start, end = self._start, len(self._text)
            limit = min(end, start + WINDOW)
            found = pattern.match(self._text, start, limit, partial=not self.is_over or even_cut)
            if found is None:
                return None
            if not found.partial or (self.is_over and limit == end):
                self.take(found.end())
                return found
            if limit < end or end - start >= WINDOW:
                return None
            yield

    def until(self, marks: Marks, emit: Callable[[str], None]) -> Steps[str | None]:
        """Pass text on up to a delimiter, which is taken and returned; `None` at the end."""
        while True:
            found = marks.search(self._text, self._start)
            end = len(self._text)
            if found is not None:
                end = found.start()
            elif not self.is_over:
                end -= marks.held(self._text, self._start)
            if end > self._start:
                emit(self.take(end))
            if found is not None:
                self.take(found.end())
                return found.group()
            if self.is_over:
                return None
            yield
