"""What a client wants to see of the choices of one request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class UsageWanted(Enum):
    """Where in a stream the client wants the usage."""

    NONE = auto()
    AT_THE_END = auto()
    IN_EVERY_CHUNK = auto()


@dataclass(frozen=True, slots=True)
class Shown:
    """Attributes:
    best: how many choices of each prompt, those with the highest mean log probability; `None`
        for all.
    logprobs: those of the tokens, with the likeliest ones, as far as the engine tells them.
    prompt_logprobs: those of the prompt, with so many of the likeliest; `None` for none.
    token_ids: of the prompt and the answer.
    tokens_as_ids: log probabilities name a token `token_id:123`.
    usage: where in a stream; a whole answer always has it.
    reasoning: what the model thought before it answered.
    older_calls: one `function_call`, for clients that know functions and no tools.
    service_tier: the answer names the tier that served it.
    """

    best: int | None = None
    logprobs: bool = True
    prompt_logprobs: int | None = None
    token_ids: bool = False
    tokens_as_ids: bool = False
    usage: UsageWanted = UsageWanted.NONE
    reasoning: bool = True
    older_calls: bool = False
    service_tier: bool = False


TEXT_AND_LOGPROBS: Final = Shown()
"""What OpenAI's chats contain."""
