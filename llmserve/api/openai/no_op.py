"""Fields of chats and text completions that change nothing here."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from llmserve.api.no_op import MARK, HintFields, MetadataText


class NoOpFields(HintFields):
    """Each is checked as OpenAI's reference says, and has no effect on the answer."""

    metadata: dict[str, MetadataText] | None = Field(
        None,
        max_length=16,
        description="The client's own labels of a stored answer; none is stored.",
        json_schema_extra=MARK,
    )
    store: bool | None = Field(
        None, description="Keep the answer for OpenAI's own tools.", json_schema_extra=MARK
    )


class ChatNoOpFields(NoOpFields):
    """And those of chats alone."""

    prediction: dict[str, Any] | None = Field(
        None,
        description="Expected text, for speed alone; tokens are made without it.",
        json_schema_extra=MARK,
    )
