"""What POST /tokenize and POST /detokenize take."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from llmserve.api.fields import Fields
from llmserve.api.openai.conversation_body import ConversationBody
from llmserve.api.sampling_body import TokenId


class TokenizeText(Fields):
    """A text."""

    served_elsewhere: ClassVar = frozenset({"messages"})

    model: str | None = Field(None, description="A served model; the default one if absent.")
    prompt: str
    add_special_tokens: bool | None = Field(
        None,
        description="Whether it begins with what the tokenizer puts before every text (default "
        "true).",
    )
    return_token_strs: bool | None = Field(
        None, description="Return the tokens as the vocabulary has them, too."
    )


class TokenizeChat(ConversationBody):
    """A conversation."""

    return_token_strs: bool | None = Field(
        None, description="Return the tokens as the vocabulary has them, too."
    )


def _kind(sent: Any) -> str:
    is_chat = "messages" in sent if isinstance(sent, dict) else isinstance(sent, TokenizeChat)
    return "[chat]" if is_chat else "[text]"


TokenizeBody = Annotated[
    Annotated[TokenizeText, Tag("[text]")] | Annotated[TokenizeChat, Tag("[chat]")],
    Discriminator(_kind),
]


class DetokenizeBody(Fields):
    """Tokens."""

    model: str | None = Field(None, description="A served model; the default one if absent.")
    tokens: list[TokenId] = Field(fail_fast=True)
