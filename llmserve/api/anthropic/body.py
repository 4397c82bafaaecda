"""What POST /v1/messages and POST /v1/messages/count_tokens take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal

import orjson
from pydantic import Field, ValidationInfo, field_validator, model_validator

from llmserve.api.anthropic.blocks import TextContent, text_of
from llmserve.api.anthropic.fields import DEFAULTS, AnthropicFields, Cacheable
from llmserve.api.anthropic.messages import MessageIn, turns
from llmserve.api.anthropic.output_config import OutputConfig, OutputFormat
from llmserve.api.anthropic.thinking import Thinking
from llmserve.api.anthropic.tools import CustomTool, ToolChoiceIn, ToolIn
from llmserve.api.generation_body import GenerationBody
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, SamplingBody
from llmserve.api.unsupported import SERVED_ELSEWHERE
from llmserve.domain import (
    Constraint,
    Conversation,
    GenerationRequest,
    SamplingFields,
    ToolChoice,
    ToolMode,
)
from llmserve.domain.offered_tools import (
    MAX_TOOLS,
    check_call_or_format,
    check_choice,
    check_different,
)

OWN_DEFAULTS: Final = SamplingFields(temperature=1.0)
MANY_BLOCKS: Final = 4096
"""More are converted in a thread."""

SAMPLING: Final = frozenset({"temperature", "top_p", "top_k"})
"""Which fields of the house's sampling this dialect has."""

StopSequence = Annotated[str, Field(min_length=1, max_length=512)]


class Metadata(AnthropicFields):
    """The client's own labels."""

    user_id: str | None = Field(
        None, description="Changes nothing: callers are told apart by their keys."
    )


class ConversationBody(Cacheable, GenerationBody):
    """A conversation, and what may be called in its answer."""

    unsupported: ClassVar = frozenset({"compaction", "container", "mcp_servers", "thread"})
    served_elsewhere: ClassVar = SERVED_ELSEWHERE | SamplingBody.on_the_wire().keys() - SAMPLING
    defaults: ClassVar = DEFAULTS
    may_be_empty: ClassVar = frozenset({"metadata", "system", "tools"})

    model: str | None = Field(None, description="A served model; the default one if absent.")
    messages: list[MessageIn] = Field(
        min_length=1,
        fail_fast=True,
        description="The conversation so far. If the last message is the assistant's, the answer "
        "goes on in it.",
    )
    system: TextContent | None = Field(None, description="What comes before all messages.")
    tools: list[ToolIn] | None = Field(
        None, max_length=MAX_TOOLS, description="Tools that the model may call."
    )
    tool_choice: ToolChoiceIn | None = Field(None, description="auto, any, one tool, or none.")
    thinking: Thinking | None = Field(
        None, description="Whether the model thinks, and with which budget."
    )
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = Field(
        None, description="Older form of `output_config.format`."
    )

    @field_validator("messages")
    @classmethod
    def _somebody_speaks(cls, messages: list[MessageIn]) -> list[MessageIn]:
        if not any(message.says_something for message in messages):
            raise ValueError("every message is empty")
        return messages

    @field_validator("tools")
    @classmethod
    def _different_tools(cls, tools: list[Any]) -> list[Any]:
        check_different([tool.name for tool in tools])
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _among_tools(cls, choice: ToolChoiceIn, others: ValidationInfo) -> ToolChoiceIn:
        if "tools" in others.data:  # else they are at fault
            check_choice(choice.choice(), {tool.name for tool in others.data["tools"] or ()})
        return choice

    @model_validator(mode="after")
    def _one_form(self) -> ConversationBody:
        if self.output_format is not None and self.output_config and self.output_config.format:
            raise ValueError(
                "output_format is the older form of output_config.format; send one of them"
            )
        check_call_or_format(self.choice, self.constraint())
        return self

    @property
    def is_long(self) -> bool:
        """Whether it has very many blocks."""
        blocks = sum(1 if isinstance(m.content, str) else len(m.content) for m in self.messages)
        return blocks > MANY_BLOCKS

    @property
    def choice(self) -> ToolChoice:
        """Which tools the answer may call."""
        return ToolChoice() if self.tool_choice is None else self.tool_choice.choice()

    def constraint(self) -> Constraint | None:
        """What the answer must look like."""
        if self.output_format is not None:
            return self.output_format.constraint("output_format")
        if self.output_config is not None and self.output_config.format is not None:
            return self.output_config.format.constraint("output_config.format")
        return None

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The one request."""
        choice = self.choice
        offered = () if choice.mode is ToolMode.NONE else (self.tools or ())
        messages = turns(text_of(self.system), self.messages)
        continues_last = messages[-1].role == "assistant"
        conversation = Conversation(
            messages=tuple(messages),
            tools=tuple(tool.tool() for tool in offered if isinstance(tool, CustomTool)),
            template_options=orjson.dumps(dict(self._template_options())).decode(),
            has_generation_prompt=not continues_last,
            continues_last=continues_last,
        )
        request = GenerationRequest(
            id=request_id,
            prompt=conversation,
            model=self.model,
            sampling=self.sampling(),
            defaults=OWN_DEFAULTS,
            timeout_seconds=timeout_seconds,
            constraint=self.constraint(),
            tool_choice=choice,
            requires_reasoning=False,
        )
        return [request]

    def sampling(self) -> SamplingFields:
        """How its answer is sampled."""
        return SamplingFields()

    def _template_options(self) -> Iterator[tuple[str, Any]]:
        if self.output_config is not None and self.output_config.effort is not None:
            yield "reasoning_effort", self.output_config.effort
        if self.thinking is not None:
            yield "enable_thinking", self.thinking.is_wanted


class CountBody(ConversationBody):
    """POST /v1/messages/count_tokens."""


class MessagesBody(ConversationBody):
    """POST /v1/messages."""

    max_tokens: int = Field(
        ge=1, le=MAX_TOKENS_LIMIT, description="At most this many new tokens, thinking included."
    )
    stream: bool | None = Field(None, description="Answer as server-sent events.")
    temperature: float | None = Field(
        None, ge=0, le=1, description="0 is greedy: the likeliest token every time."
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="Sample from the smallest set of tokens with this mass."
    )
    top_k: int | None = Field(
        None, ge=0, le=MAX_TOKENS_LIMIT, description="Sample from the k likeliest; 0: all."
    )
    stop_sequences: list[StopSequence] | None = Field(
        None, max_length=16, description="Generation ends before the first that comes."
    )
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = Field(
        None, description="Changes nothing: there is one tier."
    )

    @model_validator(mode="after")
    def _room_for_an_answer(self) -> MessagesBody:
        budget = None if self.thinking is None else self.thinking.budget_tokens
        if budget is not None and budget >= self.max_tokens:
            raise ValueError("max_tokens must be greater than thinking.budget_tokens")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Its stop sequences."""
        return tuple(self.stop_sequences or ())

    @property
    def shows_thinking(self) -> bool:
        """Whether the answer tells what the model thought."""
        return self.thinking is None or self.thinking.is_shown

    def sampling(self) -> SamplingFields:
        """How its answer is sampled."""
        return SamplingFields(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=None if self.stop_sequences is None else self.stops,
            thinking_budget=None if self.thinking is None else self.thinking.budget_tokens,
        )
