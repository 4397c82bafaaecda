"""Ids for tokens that are known by their text alone: log probabilities come with no ids."""

from __future__ import annotations

from typing import Final

from llmserve.errors import UpstreamFailed
from llmserve.text.spelling import Spelling

MOST: Final = 2**20
"""More than any vocabulary has: an upstream that sends more invents them."""


class LearnedTokens:
    """The spellings of all tokens that were seen, each with a number of ours. Owned by the event
    loop."""

    def __init__(self) -> None:
        self._spellings: list[Spelling] = []
        self._ids: dict[tuple[str, bytes], int] = {}

    def id_of(self, text: str, utf8: bytes) -> int:
        """Its number, a new one if it was never seen.

        Raises:
            UpstreamFailed: there are too many.
        """
        known = self._ids.get((text, utf8))
        if known is not None:
            return known
        if len(self._spellings) >= MOST:
            raise UpstreamFailed(
                "the server of this model has named more tokens than any model has; its log "
                "probabilities are not believed"
            )
        self._ids[text, utf8] = token_id = len(self._spellings)
        self._spellings.append(Spelling(text, utf8))
        return token_id

    def spelling(self, token_id: int) -> Spelling:
        """How a token is written."""
        return self._spellings[token_id]

    def decode(self, token_ids: object) -> str:
        """Never asked: a request that needs it is refused before."""
        raise AssertionError("the tokenizer is elsewhere")
