"""What the OpenAI routes take."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from llmserve.api.fields import Fields
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, CacheSalt, SamplingBody
from llmserve.api.unsupported import (
    DEFAULTS,
    UNSUPPORTED_IN_MESSAGES,
    UNSUPPORTED_IN_PARTS,
    Defaults,
)
from llmserve.domain import Message, Prompt, SamplingFields

MAX_CHOICES = 128
MAX_COMPLETION_LOGPROBS = 5
MAX_TOP_LOGPROBS = 20
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=1)]
# fail_fast: a body of megabytes would otherwise bring a million errors, one for each item.
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


def _kind_of_prompt(prompt: Any) -> str:
    if not isinstance(prompt, list):
        return "str"
    match prompt[:1]:
        case [str()]:
            return "list[str]"
        case [list()]:
            return "list[list[int]]"
    return "list[int]"


# By the kind of its first item: an error in a token id would otherwise be told as one of a text.
PromptOrPrompts = Annotated[
    Annotated[Text, Tag("str")]
    | Annotated[list[Text], Field(min_length=1, fail_fast=True), Tag("list[str]")]
    | Annotated[TokenIds, Tag("list[int]")]
    | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True), Tag("list[list[int]]")],
    Discriminator(_kind_of_prompt),
]


class StreamOptions(Fields):
    """Only with `stream`."""

    include_usage: bool = Field(False, description="Send a last chunk with the usage.")


class OpenAIBody(SamplingBody):
    """What chat and text completions share."""

    model: str | None = Field(None, description="A served model; the default one if absent.")
    n: int | None = Field(None, ge=1, le=MAX_CHOICES, description="Answers per prompt.")
    stream: bool | None = Field(None, description="Answer as server-sent events.")
    stream_options: StreamOptions | None = None
    cache_salt: CacheSalt | None = None
    user: str | None = Field(None, description="Taken for compatibility; a label, nothing more.")

    @model_validator(mode="after")
    def _options_only_with_stream(self) -> OpenAIBody:
        if self.wants_usage and not self.stream:
            raise ValueError("stream_options is for requests with `stream: true`")
        return self

    @property
    def choices_per_prompt(self) -> int:
        """`n`, 1 when absent."""
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionBody(OpenAIBody):
    """POST /v1/completions."""

    defaults: ClassVar[Defaults] = {**DEFAULTS, "add_special_tokens": (True,)}

    prompt: PromptOrPrompts = Field(description="Text, texts, token ids or lists of token ids.")
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="At most this many new tokens (default 16)."
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_COMPLETION_LOGPROBS,
        description="Tell each token's log probability, and those of so many likeliest tokens.",
    )

    def prompts(self) -> list[Prompt]:
        """Each prompt in the house's words."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [tuple(i for i in self.prompt if isinstance(i, int))]
        return [
            p if isinstance(p, str) else tuple(p) for p in self.prompt if not isinstance(p, int)
        ]

    def fields(self) -> SamplingFields:
        """The sampling that was asked for."""
        return replace(self.sampling(self.max_tokens), logprobs=self.logprobs)


class TextPart(Fields):
    """One part of a message's content; text is the only kind a text model reads."""

    unsupported: ClassVar = UNSUPPORTED_IN_PARTS

    type: Literal["text"]
    text: str


def _kind(content: Any) -> str:
    return "list[part]" if isinstance(content, list) else "str"


# By its kind: an error in a part would otherwise be told as one of a text.
Content = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[list[TextPart], Field(min_length=1, fail_fast=True), Tag("list[part]")],
    Discriminator(_kind),
]


class ChatMessage(Fields):
    """One turn. An answer of ours, sent back in a next turn, carries OpenAI's null fields."""

    unsupported: ClassVar = UNSUPPORTED_IN_MESSAGES

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = Field(None, max_length=64)

    def message(self) -> Message:
        """In the house's words; `developer` is what newer models call `system`."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        role = "system" if self.role == "developer" else self.role
        return Message(role, text, self.name)


class ChatBody(OpenAIBody):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(
        min_length=1, fail_fast=True, description="The conversation so far."
    )
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="Older name of max_completion_tokens."
    )
    max_completion_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="At most this many new tokens."
    )
    logprobs: bool | None = Field(None, description="Tell each token's log probability.")
    top_logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_TOP_LOGPROBS,
        description="With `logprobs`: also those of so many likeliest tokens.",
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

    def prompt(self) -> tuple[Message, ...]:
        """The conversation in the house's words."""
        return tuple(message.message() for message in self.messages)

    def fields(self) -> SamplingFields:
        """The sampling that was asked for."""
        fields = self.sampling(self.max_completion_tokens or self.max_tokens)
        return replace(fields, logprobs=(self.top_logprobs or 0) if self.logprobs else None)
