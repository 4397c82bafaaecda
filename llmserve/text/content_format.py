"""How a chat template wants what a message says: as a string or as a list of parts."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class ContentFormat(StrEnum):
    """The two that there are, in vLLM's words."""

    STRING = "string"
    OPENAI = "openai"

    def content(self, text: str) -> Any:
        """The text in this format."""
        return text if self is ContentFormat.STRING else [{"type": "text", "text": text}]
