"""A conversation's messages, and the forms that a prompt may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    name: str | None = None


Prompt = str | tuple[int, ...] | tuple[Message, ...]
"""Raw text, token ids, or a conversation for the chat template."""
