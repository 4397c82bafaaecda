"""What tokens of log probabilities are called, and ids for those that come without any."""

from __future__ import annotations

from typing import Final

from llmserve.domain.events import FIRST_UNKNOWN_ID
from llmserve.errors import UpstreamFailed
from llmserve.text.spelling import Spelling

MOST: Final = 2**20
"""More than any vocabulary has: an upstream that sends more invents them."""


class LearnedTokens:
    """The spellings of all tokens that were seen, each with its id, or with a number of ours from
    `FIRST_UNKNOWN_ID` on. Owned by the event loop."""

    def __init__(self) -> None:
        self._spellings: dict[int, Spelling] = {}
        self._ids: dict[tuple[str, bytes], int] = {}

    def id_of(self, text: str, utf8: bytes) -> int:
        """Its number, a new one if it was never seen.

        Raises:
            UpstreamFailed: there are too many.
        """
        known = self._ids.get((text, utf8))
        if known is not None:
            return known
        token_id = FIRST_UNKNOWN_ID + len(self._ids)
        self.learn(token_id, text, utf8)
        self._ids[text, utf8] = token_id
        return token_id

    def learn(self, token_id: int, text: str, utf8: bytes) -> None:
        """The token of this id is written so.

        Raises:
            UpstreamFailed: there are too many.
        """
        if token_id in self._spellings:
            return
        if len(self._spellings) >= MOST:
            raise UpstreamFailed(
                "the server of this model has named more tokens than any model has; its log "
                "probabilities are not believed"
            )
        self._spellings[token_id] = Spelling(text, utf8)

    def spelling(self, token_id: int) -> Spelling:
        """How a token is written."""
        return self._spellings[token_id]

    def decode(self, token_ids: object) -> str:
        """Never asked: a request that needs it is refused before."""
        raise AssertionError("the tokenizer is elsewhere")
