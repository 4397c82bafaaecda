"""What POST /api/chat takes."""

from __future__ import annotations

from pydantic import Field, field_validator

from llmserve.api.ollama.body import OllamaBody
from llmserve.api.ollama.messages import ChatMessage, ToolIn, messages_of
from llmserve.domain import Conversation
from llmserve.domain.offered_tools import MAX_TOOLS, check_different

MANY_MESSAGES = 4096
"""More are converted in a thread: a body of 4 MB can have 140,000."""


class ChatBody(OllamaBody):
    """POST /api/chat. Without messages it loads the model."""

    messages: list[ChatMessage] = Field(
        default_factory=list, description="The conversation so far; the answer is its next message."
    )
    tools: list[ToolIn] | None = Field(
        None, max_length=MAX_TOOLS, description="Functions that the model may call."
    )

    @field_validator("messages")
    @classmethod
    def _somebody_speaks(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages and not any(message.says_something for message in messages):
            raise ValueError("every message is empty")
        return messages

    @field_validator("tools")
    @classmethod
    def _different_tools(cls, tools: list[ToolIn]) -> list[ToolIn]:
        check_different([tool.function.name for tool in tools])
        return tools

    @property
    def asks_to_load(self) -> bool:
        return not self.messages

    @property
    def is_long(self) -> bool:
        """Whether it has very many messages."""
        return len(self.messages) > MANY_MESSAGES

    def prompt_or_conversation(self) -> Conversation:
        return Conversation(
            messages=tuple(messages_of(self.messages)),
            tools=tuple(tool.function.tool() for tool in self.tools or ()),
            template_options=self.template_options(),
        )
