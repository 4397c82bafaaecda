"""What POST /v1/chat/completions takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal

import orjson
from pydantic import Field, ValidationInfo, field_validator, model_validator

from llmserve.api.constraint_fields import ConstraintFields
from llmserve.api.openai.body import OpenAIBody
from llmserve.api.openai.messages import ChatMessage
from llmserve.api.openai.no_op import ChatNoOpFields
from llmserve.api.openai.shown import Shown
from llmserve.api.openai.tools import FunctionChoiceIn, ToolChoiceIn, ToolIn, chosen
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT
from llmserve.api.tools import FunctionIn
from llmserve.domain import (
    Conversation,
    GenerationRequest,
    SamplingFields,
    Tool,
    ToolChoice,
    ToolMode,
)
from llmserve.domain.offered_tools import (
    MAX_TOOLS,
    check_call_or_format,
    check_choice,
    check_different,
)

MAX_TOP_LOGPROBS = 20

MANY_MESSAGES: Final = 4096
"""More are converted in a thread: a body of 4 MB can have 140,000."""


class ChatBody(ChatNoOpFields, OpenAIBody):
    """POST /v1/chat/completions."""

    sampling_defaults: ClassVar = SamplingFields(temperature=1.0)
    may_be_empty: ClassVar = ConstraintFields.may_be_empty | {
        "chat_template_kwargs", "function_call", "functions", "tool_choice", "tools",
    }  # fmt: skip

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
    tools: list[ToolIn] | None = Field(
        None, max_length=MAX_TOOLS, description="Functions that the model may call."
    )
    functions: list[FunctionIn] | None = Field(
        None, max_length=MAX_TOOLS, description="Older form of `tools`."
    )
    tool_choice: ToolChoiceIn | None = Field(
        None, description="none, auto, required, one function, or `allowed_tools`."
    )
    function_call: FunctionChoiceIn | None = Field(None, description="Older form of `tool_choice`.")
    parallel_tool_calls: bool | None = Field(
        None, description="Whether several calls may come in one answer; true if absent."
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        Field(
            None,
            description="Handed to the chat template; `none` also as `enable_thinking: false`.",
        )
    )
    verbosity: Literal["low", "medium", "high"] | None = Field(
        None, description="Handed to the chat template."
    )
    include_reasoning: bool | None = Field(
        None, description="False leaves out what the model thought (vLLM's field)."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Further variables of the chat template (vLLM's field)."
    )
    add_generation_prompt: bool | None = Field(
        None, description="False ends the prompt with the last message (vLLM's field)."
    )
    continue_final_message: bool | None = Field(
        None, description="The answer goes on in the last message (vLLM's field)."
    )
    background: bool | None = Field(
        None, description="Answer at once, with an id by which the answer can be asked for."
    )
    webhook_url: str | None = Field(
        None, max_length=2048, description="With `background`: where to tell that it has ended."
    )

    @field_validator("messages")
    @classmethod
    def _somebody_speaks(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if not any(m.says_something for m in messages):
            raise ValueError("every message is empty")
        return messages

    @field_validator("tools")
    @classmethod
    def _different_tools(cls, tools: list[ToolIn]) -> list[ToolIn]:
        check_different([tool.function.name for tool in tools])
        return tools

    @field_validator("functions")
    @classmethod
    def _different_functions(cls, functions: list[FunctionIn]) -> list[FunctionIn]:
        check_different([function.name for function in functions])
        return functions

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, num_top: int | None, others: ValidationInfo) -> int | None:
        if num_top and not others.data.get("logprobs"):
            raise ValueError("it is for requests with `logprobs: true`")
        return num_top

    @field_validator("tool_choice", "function_call")
    @classmethod
    def _among_tools(cls, choice: Any, others: ValidationInfo) -> Any:
        tools, functions = (others.data.get(name) or () for name in ("tools", "functions"))
        names = {tool.function.name for tool in tools} | {tool.name for tool in functions}
        check_choice(chosen(choice, is_parallel=True), names)
        return choice

    @model_validator(mode="after")
    def _one_of_each(self) -> ChatBody:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        if self.tools and self.functions:
            raise ValueError("functions is the older form of tools; send one of them")
        if self.tool_choice is not None and self.function_call is not None:
            raise ValueError("function_call is the older form of tool_choice; send one of them")
        if self.background and self.stream:
            raise ValueError("an answer in the background is not streamed; send one of them")
        if self.webhook_url is not None and not self.background:
            raise ValueError("webhook_url is for requests with `background: true`")
        if self.continue_final_message and self.add_generation_prompt:
            raise ValueError(
                "continue_final_message goes on in the last message and add_generation_prompt "
                "begins a new one; send one of them"
            )
        return self

    @model_validator(mode="after")
    def _call_or_format(self) -> ChatBody:
        check_call_or_format(self.choice, self.constraint())
        return self

    @property
    def num_prompts(self) -> int:
        """A conversation is one."""
        return 1

    @property
    def is_long(self) -> bool:
        """Whether it has very many messages."""
        return len(self.messages) > MANY_MESSAGES

    @property
    def choice(self) -> ToolChoice:
        """Which tools the answer may call."""
        choice = self.tool_choice if self.tool_choice is not None else self.function_call
        may_be_several = self.parallel_tool_calls is not False and not self.functions
        return chosen(choice, is_parallel=may_be_several)

    @property
    def shown(self) -> Shown:
        return replace(
            super().shown,
            reasoning=self.include_reasoning is not False,
            older_calls=bool(self.functions),
        )

    def prompts(self) -> list[Conversation]:
        """The conversation. With the choice `none` the model is not shown any tools."""
        choice = self.choice
        is_continued = bool(self.continue_final_message)
        conversation = Conversation(
            messages=tuple(message.message() for message in self.messages),
            tools=() if choice.mode is ToolMode.NONE else self._offered(),
            template_options=orjson.dumps(dict(self._template_options())).decode(),
            has_generation_prompt=self.add_generation_prompt is not False and not is_continued,
            continues_last=is_continued,
        )
        return [conversation]

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The choices, each with what it may call."""
        choice = self.choice
        return [
            replace(request, tool_choice=choice)
            for request in super().requests(request_id, timeout_seconds)
        ]

    def wanted_sampling(self) -> SamplingFields:
        """With the number of likeliest tokens, if log probabilities are wanted at all."""
        sampling = self.sampling(self.max_completion_tokens or self.max_tokens)
        return replace(sampling, logprobs=(self.top_logprobs or 0) if self.logprobs else None)

    def _offered(self) -> tuple[Tool, ...]:
        if self.functions:
            return tuple(function.tool() for function in self.functions)
        return tuple(tool.function.tool() for tool in self.tools or ())

    def _template_options(self) -> Iterator[tuple[str, Any]]:
        if self.reasoning_effort is not None:
            yield "reasoning_effort", self.reasoning_effort
            if self.reasoning_effort == "none":
                yield "enable_thinking", False
        if self.verbosity is not None:
            yield "verbosity", self.verbosity
        yield from (self.chat_template_kwargs or {}).items()
