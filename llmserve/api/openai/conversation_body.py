"""A conversation that is to become a prompt, and no more."""

from __future__ import annotations

from typing import Any, ClassVar

import orjson
from pydantic import Field, field_validator, model_validator

from llmserve.api.fields import Fields
from llmserve.api.openai.messages import ChatMessage
from llmserve.api.openai.tools import ToolIn
from llmserve.domain import Conversation
from llmserve.domain.offered_tools import MAX_TOOLS, check_different


class ConversationBody(Fields):
    """POST /apply-template, in OpenAI's, vLLM's and llama.cpp's words."""

    unsupported: ClassVar = frozenset(
        {"add_special_tokens", "chat_template", "documents", "mm_processor_kwargs"}
    )
    served_elsewhere: ClassVar = frozenset({"prompt"})
    may_be_empty: ClassVar = frozenset({"chat_template_kwargs", "tools"})

    model: str | None = Field(None, description="A served model; the default one if absent.")
    messages: list[ChatMessage] = Field(
        min_length=1, fail_fast=True, description="The conversation so far."
    )
    tools: list[ToolIn] | None = Field(
        None, max_length=MAX_TOOLS, description="Functions that the model may call."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Further variables of the chat template."
    )
    add_generation_prompt: bool | None = Field(
        None, description="False ends the prompt with the last message."
    )
    continue_final_message: bool | None = Field(
        None, description="The answer goes on in the last message."
    )

    @field_validator("tools")
    @classmethod
    def _different_tools(cls, tools: list[ToolIn]) -> list[ToolIn]:
        check_different([tool.function.name for tool in tools])
        return tools

    @model_validator(mode="after")
    def _one_end(self) -> ConversationBody:
        if self.continue_final_message and self.add_generation_prompt:
            raise ValueError(
                "continue_final_message goes on in the last message and add_generation_prompt "
                "begins a new one; send one of them"
            )
        return self

    def conversation(self) -> Conversation:
        """As the chat template takes it."""
        is_continued = bool(self.continue_final_message)
        return Conversation(
            messages=tuple(message.message() for message in self.messages),
            tools=tuple(tool.function.tool() for tool in self.tools or ()),
            template_options=orjson.dumps(self.chat_template_kwargs or {}).decode(),
            has_generation_prompt=self.add_generation_prompt is not False and not is_continued,
            continues_last=is_continued,
        )
