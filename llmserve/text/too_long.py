"""The error for a text that is too long to be tokenized."""

from __future__ import annotations


class TooLong(Exception):
    """A text has more tokens than allowed: `fewest` or more. Clients see a `PromptTooLong`."""

    def __init__(self, fewest: int) -> None:
        super().__init__(f"the text has {fewest} tokens or more")
        self.fewest = fewest
