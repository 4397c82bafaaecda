"""The prompt of one choice, written before its completion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from llmserve.api.openai.logprobs import CompletionLogprobs
from llmserve.domain import TokenLogprobs

MOST_TOKENS: Final = 64
"""In one chunk."""

Piece = tuple[str, dict[str, Any] | None]
"""Text, and the log probabilities of the tokens in it."""


class Echo:
    """The pieces of a streamed prompt. `logprobs` writes those of the whole choice; `None` if
    nobody wants them."""

    def __init__(self, text: str, first_id: int, logprobs: CompletionLogprobs | None) -> None:
        self.text = text
        self.first_id = first_id
        self._logprobs = logprobs
        self._unscored: list[int] = [first_id]
        self._written = 0
        self._is_over = False
        if logprobs is not None:
            logprobs.begin_echo(text)

    def pieces(self, tokens: Sequence[TokenLogprobs]) -> Iterator[Piece]:
        """Those of the prompt's next tokens, none of them too large."""
        for start in range(0, len(tokens), MOST_TOKENS):
            yield self._piece(tokens[start : start + MOST_TOKENS])

    def _piece(self, tokens: Sequence[TokenLogprobs]) -> Piece:
        assert self._logprobs is not None, "nobody asked for the prompt's log probabilities"
        first, self._unscored = self._unscored, []
        body = self._logprobs.body([*first, *tokens])
        begin, self._written = self._written, self._logprobs.offset
        return self.text[begin : self._written], body

    def rest(self) -> Iterator[Piece]:
        """What is left before the answer begins; nothing the second time."""
        if self._is_over:
            return
        self._is_over = True
        if self._logprobs is None:
            yield self.text, None
            return
        text, body = self._piece(()) if self._unscored else ("", None)
        text += self.text[self._written :]
        self._logprobs.end_echo()
        if text or body is not None:
            yield text, body
