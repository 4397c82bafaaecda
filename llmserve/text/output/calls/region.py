"""The end of a region that holds calls."""

from __future__ import annotations

from functools import cache
from typing import Any

import regex

from llmserve.text.output.calls.form import Outcome
from llmserve.text.output.source import Source, Steps


@cache
def pattern_of_end(*ends: str) -> Any:
    """White space, brackets that are too many, and these delimiters in order."""
    return regex.compile(r"[ \t\r\n]*+".join(["[ \t\r\n\\]})]*+", *map(regex.escape, ends)]))


def end_of_region(source: Source, pattern: Any) -> Steps[Outcome]:
    """Read up to the end; something else that comes there is not taken."""
    found = yield from source.match(pattern, even_cut=True)
    return Outcome.UNCLOSED if found is None else Outcome.CLOSED
