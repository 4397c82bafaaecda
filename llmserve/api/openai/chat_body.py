"""What POST /v1/chat/completions takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from llmserve.api.fields import Fields
from llmserve.api.openai.body import OpenAIBody
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT
from llmserve.api.unsupported import UNSUPPORTED_IN_MESSAGES, UNSUPPORTED_IN_PARTS
from llmserve.domain import Conversation, Message, SamplingFields

MAX_TOP_LOGPROBS = 20

MANY_MESSAGES: Final = 4096
"""More are converted in a thread: a body of 4 MB can have 140,000."""


class TextPart(Fields):
    """One part of a message's content; text is the only kind a text model reads."""

    unsupported: ClassVar = UNSUPPORTED_IN_PARTS

    type: Literal["text"]
    text: str


def _kind(content: Any) -> str:
    return "list[part]" if isinstance(content, list) else "str"


# By its kind: an error in a part would otherwise be reported as one in a text.
Content = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[list[TextPart], Field(min_length=1, fail_fast=True), Tag("list[part]")],
    Discriminator(_kind),
]


class ChatMessage(Fields):
    """One turn. An answer of ours that comes back in a next turn has OpenAI's null fields."""

    unsupported: ClassVar = UNSUPPORTED_IN_MESSAGES

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = Field(None, max_length=64)

    def message(self) -> Message:
        """As the service takes it; `developer` is what newer models call `system`."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        role = "system" if self.role == "developer" else self.role
        return Message(role, text, self.name)


class ChatBody(OpenAIBody):
    """POST /v1/chat/completions."""

    sampling_defaults: ClassVar = SamplingFields(temperature=1.0)

    messages: list[ChatMessage] = Field(
        min_length=1, fail_fast=True, description="The conversation so far."
    )
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="Older name of max_completion_tokens."
    )
    max_completion_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="At most this many new tokens."
    )
    logprobs: bool | None = Field(None, description="Return each token's log probability.")
    top_logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_TOP_LOGPROBS,
        description="With `logprobs`: also those of this many of the likeliest tokens.",
    )

    @field_validator("messages")
    @classmethod
    def _somebody_speaks(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if not any(m.content for m in messages):
            raise ValueError("every message is empty")
        return messages

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, num_top: int | None, others: ValidationInfo) -> int | None:
        if num_top and not others.data.get("logprobs"):
            raise ValueError("it is for requests with `logprobs: true`")
        return num_top

    @model_validator(mode="after")
    def _one_limit(self) -> ChatBody:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        return self

    @property
    def num_prompts(self) -> int:
        """A conversation is one."""
        return 1

    @property
    def is_long(self) -> bool:
        """Whether it has very many messages."""
        return len(self.messages) > MANY_MESSAGES

    def prompts(self) -> list[Conversation]:
        """The conversation."""
        return [Conversation(tuple(message.message() for message in self.messages))]

    def wanted_sampling(self) -> SamplingFields:
        """With the number of likeliest tokens, if log probabilities are wanted at all."""
        sampling = self.sampling(self.max_completion_tokens or self.max_tokens)
        return replace(sampling, logprobs=(self.top_logprobs or 0) if self.logprobs else None)
