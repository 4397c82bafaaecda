"""What happens to a request, in order: `Queued`*, `Started`, `PromptLogprobs`*, `Delta`*, and one
terminal event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from llmserve.domain.tools import ToolCallDelta
from llmserve.errors import LLMServeError

FIRST_UNKNOWN_ID: Final = 2**31
"""No vocabulary is so large: from here on are numbers for tokens whose ids nobody told."""


class FinishReason(StrEnum):
    """Why a generation ended well."""

    STOP = "stop"
    LENGTH = "length"
    TIMEOUT = "timeout"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one generation; the end-of-sequence token counts as generated, and so do
    `reasoning_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Queued:
    """Still waiting: `position` requests are ahead; `eta_seconds` estimates the wait, if known."""

    position: int
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class Started:
    """A slot was taken and prefill begins."""

    prompt_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural log probabilities from the model's own logits, before any sampling parameter.

    `top` holds the likeliest tokens and their log probabilities, best first. `rank` is the token's
    own place among all, 1 for the likeliest; known for a prompt's tokens only.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Those of the prompt's next tokens, in order: from its second one on, as nothing comes before
    the first."""

    tokens: tuple[TokenLogprobs, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """New text and its tokens; a slow reader gets fewer, larger deltas.

    Attributes:
        text: of the answer itself.
        logprobs: one entry for each token if the request asked for them.
        reasoning: text that the model thinks before it answers.
        calls: pieces of tool calls.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    reasoning: str = ""
    calls: tuple[ToolCallDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """Terminal: the generation ended well. `stop_string` is the one that matched, if any;
    `stop_token` the one of the request's `stop_token_ids` that ended it."""

    reason: FinishReason
    usage: Usage
    stop_string: str | None = None
    stop_token: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: the generation ended in an error."""

    error: LLMServeError
    usage: Usage


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Terminal: the caller cancelled the request or disconnected."""

    usage: Usage


Terminal = Finish | Failed | Cancelled


Event = Queued | Started | PromptLogprobs | Delta | Terminal
