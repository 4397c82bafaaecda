"""Log probabilities in OpenAI's two shapes: of chats and of text completions."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from llmserve.domain import TokenLogprobs
from llmserve.text.spelling import Spelling

Spell = Callable[[int], Spelling]
"""How the model's tokenizer spells a token id."""

LEAST: Final = -9999.0
"""OpenAI's number for an impossible token; JSON has no minus infinity."""

CONTINUATION: Final = frozenset(bytes([byte]) for byte in range(0x80, 0xC0))
"""Bytes that no UTF-8 character begins with."""


class LogprobsWriter(Protocol):
    """Writes the log probabilities of one choice, in the order of its tokens."""

    def body(self, tokens: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """The `logprobs` of a chunk with these tokens, or of a whole choice."""
        ...


class ChatLogprobs:
    """`choices[].logprobs` of /v1/chat/completions."""

    def __init__(self, spelling: Spell) -> None:
        self._spelling = spelling

    def body(self, tokens: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """Token by token."""
        content = [
            self._token(token.token_id, token.logprob)
            | {"top_logprobs": [self._token(*pair) for pair in token.top]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        spelling = self._spelling(token_id)
        return {
            "token": spelling.text,
            "logprob": max(logprob, LEAST),
            "bytes": list(spelling.utf8),
        }


class CompletionLogprobs:
    """`choices[].logprobs` of /v1/completions.

    `text_offset` counts the characters of the choice's text before a token; the pieces of one
    character share its offset.
    """

    def __init__(self, spelling: Spell) -> None:
        self._spelling = spelling
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def body(self, tokens: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """List by list."""
        spellings = [self._spelling(token.token_id) for token in tokens]
        return {
            "tokens": [spelling.text for spelling in spellings],
            "token_logprobs": [max(token.logprob, LEAST) for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens],
            "text_offset": [self._offset_before(spelling) for spelling in spellings],
        }

    def _top(self, token: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens and the chosen one. Of those that are spelled alike, as pieces of
        characters are, only the likeliest."""
        top: dict[str, float] = {}
        for token_id, logprob in (*token.top, (token.token_id, token.logprob)):
            top.setdefault(self._spelling(token_id).text, max(logprob, LEAST))
        return top

    def _offset_before(self, spelling: Spelling) -> int:
        if not spelling.is_in_text:
            return self._offset
        if not _goes_on(spelling.utf8):  # what came before remains a piece: one U+FFFD
            self._offset += len(self._utf8.decode(b"", final=True))
        offset = self._offset
        self._offset += len(self._utf8.decode(spelling.utf8))
        return offset


def _goes_on(utf8: bytes) -> bool:
    """Whether the bytes continue a character that others began."""
    return utf8[:1] in CONTINUATION
