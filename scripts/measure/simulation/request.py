"""What a client sends, and what it sends after that."""

from __future__ import annotations

from dataclasses import dataclass

from measure.simulation.text import Text


@dataclass(slots=True, eq=False)
class Request:
    """Attributes:
    caller: the key that it comes with.
    at: seconds from the start; of a later turn of a conversation, seconds after the answer before.
    then: the conversation's next turn, sent only if this one was answered.
    """

    caller: str
    at: float
    prompt: Text
    answer_tokens: int
    then: Request | None = None
