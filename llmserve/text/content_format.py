"""The form in which a chat template takes a message's content: a string or a list of parts."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class ContentFormat(StrEnum):
    """The two formats, under vLLM's names."""

    STRING = "string"
    OPENAI = "openai"

    def content(self, text: str) -> Any:
        """The text in this format."""
        return text if self is ContentFormat.STRING else [{"type": "text", "text": text}]
