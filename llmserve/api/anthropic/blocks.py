"""The blocks of a message's content, as clients send them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag

from llmserve.api.anthropic.fields import AnthropicFields, Cacheable, Refused, kind_of
from llmserve.api.offered_tools import FunctionName

SERVED: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "tool_result"})
"""The types of blocks that a message may have."""

BlockId = Annotated[str, Field(min_length=1, max_length=256)]


class TextBlock(Cacheable):
    """Words."""

    type: Literal["text"]
    text: str


class ThinkingBlock(AnthropicFields):
    """What an assistant thought."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = Field(None, description="Not checked.")


class RedactedThinkingBlock(AnthropicFields):
    """What an assistant of Anthropic's thought, encrypted: its `data` is told as ignored."""

    type: Literal["redacted_thinking"]


class ToolUseBlock(Cacheable):
    """An assistant's call."""

    type: Literal["tool_use"]
    id: BlockId
    name: FunctionName
    input: dict[str, Any]


def _text_kind(sent: Any) -> str:
    kind = kind_of(sent)
    return "[refused]" if isinstance(kind, str) and kind != "text" else "[text]"


Text = Annotated[
    Annotated[TextBlock, Tag("[text]")] | Annotated[Refused, Tag("[refused]")],
    Discriminator(_text_kind),
]


def _content_kind(content: Any) -> str:
    return "list[block]" if isinstance(content, list) else "str"


# By its kind: an error in a block would otherwise be reported as one in a text.
TextContent = Annotated[
    Annotated[str, Tag("str")] | Annotated[list[Text], Field(fail_fast=True), Tag("list[block]")],
    Discriminator(_content_kind),
]


class ToolResultBlock(Cacheable):
    """What a call came to, in a message of the user."""

    type: Literal["tool_result"]
    tool_use_id: BlockId
    content: TextContent | None = None
    is_error: bool | None = Field(
        None, description="Whether the tool failed: the model is told so before the content."
    )


def _block_kind(sent: Any) -> str:
    kind = kind_of(sent)
    if not isinstance(kind, str):
        return "[text]"
    return f"[{kind}]" if kind in SERVED else "[refused]"


Block = Annotated[
    Annotated[TextBlock, Tag("[text]")]
    | Annotated[ThinkingBlock, Tag("[thinking]")]
    | Annotated[RedactedThinkingBlock, Tag("[redacted_thinking]")]
    | Annotated[ToolUseBlock, Tag("[tool_use]")]
    | Annotated[ToolResultBlock, Tag("[tool_result]")]
    | Annotated[Refused, Tag("[refused]")],
    Discriminator(_block_kind),
]

Content = Annotated[
    Annotated[str, Tag("str")] | Annotated[list[Block], Field(fail_fast=True), Tag("list[block]")],
    Discriminator(_content_kind),
]


def text_of(content: str | list[TextBlock | Refused] | None) -> str:
    """The words of a content without other blocks; each block has lines of its own."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(block.text for block in content if isinstance(block, TextBlock))
