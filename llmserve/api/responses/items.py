"""The items of a conversation, as clients of the Responses API send them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema

from llmserve.api.fields import Fields
from llmserve.api.offered_tools import FunctionName
from llmserve.api.other_input import OtherInput, is_other_input

ItemId = Annotated[str, Field(min_length=1, max_length=256)]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


def _text_alone(kind: Any) -> Any:
    if isinstance(kind, str) and kind not in ("input_text", "output_text", "refusal"):
        raise ValueError(f"{kind[:64]!r} parts are not supported by this server; it reads text")
    return kind


class TextPart(Fields):
    """Text of a message or of a tool's result."""

    type: Annotated[Literal["input_text", "output_text"], BeforeValidator(_text_alone)]
    text: str
    annotations: list[Any] | None = Field(None, description="Of an answer's text; has no effect.")
    logprobs: list[Any] | None = Field(None, description="Of an answer's text; has no effect.")


class OtherPart(OtherInput, TextPart):
    """What a model of text does not read."""


class RefusalPart(Fields):
    """A part of an assistant's message in which it declined."""

    type: Literal["refusal"]
    refusal: str


def _part_kind(part: Any) -> str:
    if is_other_input(part):
        return "[other]"
    return "[refusal]" if _type_of(part) == "refusal" else "[text]"


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
    Annotated[str, Tag("str")] | Annotated[list[Part], Field(fail_fast=True), Tag("list[part]")],
    Discriminator(_content_kind),
]


class MessageItem(Fields):
    """What somebody said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: ItemId | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = Field(
        None, description="Which part of an answer it was; has no effect."
    )

    @property
    def text(self) -> str:
        """All of its words."""
        return text_of(self.content)


class FunctionCallItem(Fields):
    """A call that the assistant made."""

    type: Literal["function_call"]
    call_id: ItemId
    name: FunctionName
    arguments: str
    id: ItemId | None = None
    status: ItemStatus | None = None


class FunctionOutputItem(Fields):
    """What a function returned."""

    type: Literal["function_call_output"]
    call_id: ItemId = Field(description="The call that it answers.")
    output: Content
    id: ItemId | None = None
    status: ItemStatus | None = None


class ThoughtPart(Fields):
    """What the assistant thought, or a summary of it."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Fields):
    """What the assistant thought before what follows."""

    type: Literal["reasoning"]
    summary: list[ThoughtPart] | None = None
    content: list[ThoughtPart] | None = None
    encrypted_content: str | None = Field(
        None, description="Never made by this server; `content` has the text."
    )
    id: ItemId | None = None
    status: ItemStatus | None = None

    @property
    def text(self) -> str:
        """The thoughts themselves, or their summary."""
        if self.content:
            return "".join(part.text for part in self.content)
        return "\n\n".join(part.text for part in self.summary or ())


class ItemReference(Fields):
    """An item of a stored response."""

    type: Literal["item_reference"] = "item_reference"
    id: ItemId


KINDS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


def _known(item: Any) -> Any:
    kind = _type_of(item)
    if isinstance(kind, str) and kind not in KINDS:
        raise ValueError(f"{kind[:64]!r} items are not supported by this server")
    return item


def _item_kind(item: Any) -> str:
    kind = _type_of(item)
    is_reference = kind is None and isinstance(item, dict) and "role" not in item and "id" in item
    if is_reference:
        kind = "item_reference"
    return f"[{kind}]" if kind in KINDS else "[message]"


def _type_of(sent: Any) -> Any:
    return sent.get("type") if isinstance(sent, dict) else getattr(sent, "type", None)


Item = Annotated[
    Annotated[MessageItem, Tag("[message]")]
    | Annotated[FunctionCallItem, Tag("[function_call]")]
    | Annotated[FunctionOutputItem, Tag("[function_call_output]")]
    | Annotated[ReasoningItem, Tag("[reasoning]")]
    | Annotated[ItemReference, Tag("[item_reference]")],
    Discriminator(_item_kind),
    BeforeValidator(_known),
]


def text_of(content: str | Sequence[TextPart | RefusalPart]) -> str:
    """The words of a content; what declines is text, too."""
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
