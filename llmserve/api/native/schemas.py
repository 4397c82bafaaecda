"""What the native routes take and give."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from llmserve.api.constraint_fields import ConstraintFields
from llmserve.api.edge.timeouts import earliest
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, CacheSalt, SamplingBody, SamplingQuery
from llmserve.domain import Cancelled, Finish, GenerationRequest, SamplingFields, Usage

DEFAULTS = SamplingFields(max_tokens=50, temperature=0.7)
Prompt = Annotated[str, Field(min_length=1, description="Text to continue.")]


class PromptQuery(SamplingQuery):
    """One prompt and how to continue it, on whichever native route."""

    prompt: Prompt
    model: str | None = Field(None, description="A served model; the default one if absent.")
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="At most this many new tokens (default 50)."
    )

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The one request."""
        request = GenerationRequest(
            id=request_id,
            prompt=self.prompt,
            model=self.model,
            sampling=self.sampling(self.max_tokens),
            defaults=DEFAULTS,
            timeout_seconds=earliest(self.timeout, timeout_seconds),
        )
        return [request]


class PromptBody(ConstraintFields, SamplingBody, PromptQuery):
    """The same as JSON."""

    cache_salt: CacheSalt | None = None

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The one request."""
        [request] = super().requests(request_id, timeout_seconds)
        return [replace(request, cache_salt=self.cache_salt or "", constraint=self.constraint())]


class GenerateBody(PromptBody):
    """POST /generate."""

    stream: bool = Field(False, description="Answer as server-sent events.")


class StreamQuery(PromptQuery):
    """GET /stream: a query string, where everything is text."""

    model_config = ConfigDict(strict=False)


class UsageOut(BaseModel):
    """Tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> UsageOut:
        """The wire's view of a usage."""
        return cls(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        )


class GenerateAnswer(BaseModel):
    """The whole answer."""

    id: str
    model: str
    result: str
    finish_reason: str = Field(description="stop, length or timeout")
    usage: UsageOut


def done(answer_id: str, terminal: Finish | Cancelled) -> dict[str, object]:
    """What the last event of an answer says, unless it is an error."""
    return {
        "id": answer_id,
        "finish_reason": terminal.reason.value if isinstance(terminal, Finish) else "cancelled",
        "usage": UsageOut.of(terminal.usage).model_dump(),
    }
