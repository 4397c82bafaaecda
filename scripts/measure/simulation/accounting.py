"""Requests from an accounting log of ours: when, whose, how long, and what was cached of them.

A log has no texts. Which prompts begin alike is inferred from what was cached: such a prompt begins
as the latest one of its key that was long enough, and if its key had none, as the latest of all.
What was alike and was not found in a cache then, is not found here either.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import BaseModel, Field, ValidationError

from measure.simulation.request import Request
from measure.simulation.text import Span, Text, beginning, extended, length

LATEST: Final = 16
"""Of a key's texts, and of all, so many are candidates for a beginning."""


class LogError(Exception):
    """A line that cannot be replayed; the message says which, and why."""


class Entry(BaseModel):
    """What is used of a line; `time` is of the end."""

    time: datetime
    key: str
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    cached_tokens: int = Field(ge=0)
    duration_seconds: float = Field(ge=0)

    @property
    def begun(self) -> datetime:
        """When it was sent."""
        return self.time - timedelta(seconds=self.duration_seconds)


def read_log(path: Path, speed: float = 1.0) -> list[Request]:
    """All requests that got at least one token, at `speed` times their rate.

    Raises:
        LogError: a line is not of such a log, or no request is left.
    """
    entries = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError as error:
                problem = error.errors()[0]
                field = ".".join(map(str, problem["loc"]))
                raise LogError(f"{path}, line {number}: {field} {problem['msg']}") from error
            if entry.prompt_tokens and entry.completion_tokens:
                entries.append(entry)
    if not entries:
        raise LogError(f"{path} has no request that was answered")
    entries.sort(key=lambda entry: entry.begun)
    return _requests(entries, speed)


def _requests(entries: list[Entry], speed: float) -> list[Request]:
    sources = itertools.count()
    of_key: dict[str, list[Text]] = {}
    latest: list[Text] = []
    found = []
    for entry in entries:
        own = of_key.setdefault(entry.key, [])
        shared = min(entry.cached_tokens, entry.prompt_tokens - 1)
        known = next(
            (text for text in (*reversed(own), *reversed(latest)) if length(text) >= shared), ()
        )
        start = beginning(known, shared)
        prompt = (*start, Span(next(sources), entry.prompt_tokens - length(start)))
        at = (entry.begun - entries[0].begun).total_seconds() / speed
        found.append(Request(entry.key, at, prompt, entry.completion_tokens))
        for texts in (own, latest):
            texts.append(extended(prompt, entry.completion_tokens))
            del texts[:-LATEST]
    return found
