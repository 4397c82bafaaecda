"""The delimiters of reasoning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import regex


@dataclass(frozen=True)
class Thinking:
    """Reasoning stands between `start` and `end`, at the beginning of an answer.

    Attributes:
        closing: what ends it so that the answer itself begins; `end` if empty.
        around: delimiters around the answer that follows; empty where there are none.
    """

    start: str
    end: str
    closing: str = ""
    around: tuple[str, ...] = ()

    @property
    def markers(self) -> tuple[str, ...]:
        """Both delimiters."""
        return (self.start, self.end)

    def is_open(self, opening: str) -> bool:
        """Whether an answer that is opened like this is in the midst of reasoning."""
        return opening.rfind(self.start) > opening.rfind(self.end)

    @cached_property
    def begins(self) -> Any:
        """The pattern of `start`, with white space before it."""
        return regex.compile(r"[ \t\r\n]*+" + regex.escape(self.start))
