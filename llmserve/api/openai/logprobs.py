"""Log probabilities in OpenAI's two shapes: of chats and of text completions."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from llmserve.api.token_logprobs import LEAST, Spell
from llmserve.domain import TokenLogprobs
from llmserve.text.spelling import Spelling

CONTINUATION: Final = frozenset(bytes([byte]) for byte in range(0x80, 0xC0))
"""Bytes that no UTF-8 character begins with."""


Token = TokenLogprobs | int
"""Or only its id: nothing comes before a prompt's first token."""


def as_ids(spelling: Spell) -> Spell:
    """Each token is written `token_id:123`; its bytes stay."""
    return lambda token_id: replace(spelling(token_id), text=f"token_id:{token_id}")


class LogprobsWriter(Protocol):
    """Writes the log probabilities of one choice, in the order of its tokens."""

    def body(self, tokens: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """The `logprobs` of a chunk with these tokens, or of a whole choice."""
        ...


class CompletionLogprobs:
    """`choices[].logprobs` of /v1/completions.

    `text_offset` counts the characters of the choice's text before a token; the pieces of one
    character share its offset. `written` is how tokens are named, if not as they are spelled;
    `num_top` bounds how many of the likeliest are told.
    """

    def __init__(
        self, spelling: Spell, written: Spell | None = None, num_top: int | None = None
    ) -> None:
        self._spelling = spelling
        self._written = written or spelling
        self._num_top = num_top
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._echoed = ""
        self.offset = 0

    def begin_echo(self, text: str) -> None:
        """The next tokens are the prompt's, whose text this is."""
        self._echoed = text

    def end_echo(self) -> None:
        """The next token is the answer's first."""
        self._utf8.reset()
        self.offset, self._echoed = len(self._echoed), ""

    def body(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """List by list; of a token without anything before it there are only name and offset."""
        ids = [token if isinstance(token, int) else token.token_id for token in tokens]
        return {
            "tokens": [self._written(token_id).text for token_id in ids],
            "token_logprobs": [
                None if isinstance(token, int) else max(token.logprob, LEAST) for token in tokens
            ],
            "top_logprobs": [
                None if isinstance(token, int) else self._top(token) for token in tokens
            ],
            "text_offset": [self._offset_before(self._spelling(token_id)) for token_id in ids],
        }

    def _top(self, token: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens and the chosen one. Of those that are spelled alike, as pieces of
        characters are, only the likeliest."""
        top: dict[str, float] = {}
        best = token.top if self._num_top is None else token.top[: self._num_top]
        for token_id, logprob in (*best, (token.token_id, token.logprob)):
            top.setdefault(self._written(token_id).text, max(logprob, LEAST))
        return top

    def _offset_before(self, spelling: Spelling) -> int:
        utf8 = spelling.utf8
        if self.offset < len(self._echoed):
            is_written = self._echoed.startswith(spelling.text, self.offset)
            if not spelling.is_in_text and not (is_written and spelling.text):
                return self.offset
            # Many tokenizers begin a text with a space that is not in it.
            if not is_written and self._echoed.startswith(spelling.text[1:], self.offset):
                utf8 = utf8.removeprefix(b" ")
        elif not spelling.is_in_text:
            return self.offset
        if not _goes_on(utf8):  # what came before remains a piece: one U+FFFD
            self.offset += len(self._utf8.decode(b"", final=True))
        offset = self.offset
        self.offset += len(self._utf8.decode(utf8))
        return offset


def _goes_on(utf8: bytes) -> bool:
    """Whether the bytes continue a character that others began."""
    return utf8[:1] in CONTINUATION
