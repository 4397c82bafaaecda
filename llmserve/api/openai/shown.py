"""What the choices of one request contain beside their text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Shown:
    """Attributes:
    best: how many choices of each prompt, those with the highest mean log probability; `None`
        for all.
    logprobs: those of the tokens, with the likeliest ones, as far as the engine tells them.
    prompt_logprobs: those of the prompt, with so many of the likeliest; `None` for none.
    token_ids: of the prompt and the answer.
    tokens_as_ids: log probabilities name a token `token_id:123`.
    """

    best: int | None = None
    logprobs: bool = True
    prompt_logprobs: int | None = None
    token_ids: bool = False
    tokens_as_ids: bool = False


TEXT_AND_LOGPROBS: Final = Shown()
"""What OpenAI's chats contain."""
