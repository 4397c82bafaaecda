"""Log probabilities token by token, as chats and responses tell them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llmserve.domain import TokenLogprobs
from llmserve.text.spelling import Spelling

Spell = Callable[[int], Spelling]
"""How the model's tokenizer spells a token id."""

LEAST: Final = -9999.0
"""OpenAI's number for an impossible token; JSON has no minus infinity."""


class ChatLogprobs:
    """The `logprobs` of a chat's choice; a response has its `content`."""

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
