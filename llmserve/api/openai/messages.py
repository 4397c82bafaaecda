"""The messages of a chat, as clients send them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from llmserve.api.fields import Fields
from llmserve.api.openai.tools import FunctionCall, ToolCallIn
from llmserve.api.other_input import OtherInput, is_other_input
from llmserve.api.unsupported import UNSUPPORTED_IN_MESSAGES, UNSUPPORTED_IN_PARTS
from llmserve.domain import Message, Role

LEGACY_ID: Final = "call_function"
"""The id of a call of OpenAI's first generation, which had none."""


class TextPart(Fields):
    """One part of a message's content; text is the only kind a text model reads."""

    unsupported: ClassVar = UNSUPPORTED_IN_PARTS

    type: Literal["text"]
    text: str


class OtherPart(OtherInput, TextPart):
    """What a model of text does not read."""


class RefusalPart(Fields):
    """A part of an assistant's message in which it declined."""

    type: Literal["refusal"]
    refusal: str


def _part_kind(part: Any) -> str:
    if is_other_input(part):
        return "[other]"
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return "[refusal]" if kind == "refusal" else "[text]"


Part = Annotated[
    Annotated[TextPart, Tag("[text]")]
    | Annotated[RefusalPart, Tag("[refusal]")]
    | Annotated[SkipJsonSchema[OtherPart], Tag("[other]")],
    Discriminator(_part_kind),
]


def _content_kind(content: Any) -> str:
    return "list[part]" if isinstance(content, list) else "str"


# By its kind: an error in a part would otherwise be reported as one in a text.
Content = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[list[Part], Field(min_length=1, fail_fast=True), Tag("list[part]")],
    Discriminator(_content_kind),
]


class ChatMessage(Fields):
    """One turn. An answer of ours that comes back in a next turn has OpenAI's null fields."""

    unsupported: ClassVar = UNSUPPORTED_IN_MESSAGES
    may_be_empty: ClassVar = frozenset(
        {"function_call", "reasoning", "reasoning_content", "refusal", "tool_call_id", "tool_calls"}
    )

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: str | None = Field(None, max_length=128)
    refusal: str | None = Field(None, description="An assistant's words when it declined.")
    reasoning_content: str | None = Field(
        None, description="What an assistant thought; also called `reasoning`."
    )
    reasoning: str | None = None
    tool_calls: list[ToolCallIn] | None = Field(None, description="An assistant's calls.")
    tool_call_id: str | None = Field(
        None, max_length=256, description="Which call this message of a tool answers."
    )
    function_call: FunctionCall | None = Field(None, description="Older form of `tool_calls`.")

    @model_validator(mode="after")
    def _has_what_its_role_needs(self) -> ChatMessage:
        if self._is_plain:
            return self
        is_assistant = self.role == "assistant"
        for field in ("tool_calls", "function_call", "refusal", "reasoning_content", "reasoning"):
            if getattr(self, field) and not is_assistant:
                raise ValueError(f"`{field}` is for messages of the assistant")
        says_nothing = self.content is None and not self.refusal
        if says_nothing and not (is_assistant and (self.tool_calls or self.function_call)):
            raise ValueError(f"a message of the {self.role} needs `content`")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a message of a tool needs `tool_call_id`, the id of the call")
        if self.role == "function" and not self.name:
            raise ValueError("a message of a function needs its `name`")
        return self

    @property
    def _is_plain(self) -> bool:
        """Whether it has words and a role that needs nothing else, as nearly all have."""
        is_speech = self.role not in ("tool", "function") and self.content is not None
        return is_speech and self.__pydantic_fields_set__ == {"role", "content"}

    @property
    def says_something(self) -> bool:
        """Whether there is anything to read in it."""
        return bool(self.content or self.refusal or self.tool_calls or self.function_call)

    def message(self) -> Message:
        """As the service takes it; what declines is the assistant's text, too."""
        if self._is_plain:
            return Message(_role(self.role), self._text())
        is_result = self.role == "function"
        calls = tuple(call.call() for call in self.tool_calls or ())
        if self.function_call is not None:
            calls = (*calls, self.function_call.call(LEGACY_ID))
        return Message(
            role=_role(self.role),
            content=self._text() + (self.refusal or ""),
            name=self.name,
            reasoning=self.reasoning_content or self.reasoning or "",
            tool_calls=calls,
            tool_call_id=LEGACY_ID if is_result else self.tool_call_id,
        )

    def _text(self) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(
            part.text if isinstance(part, TextPart) else part.refusal for part in self.content
        )


def _role(role: Literal[Role, "function"]) -> Role:
    return "tool" if role == "function" else role
