"""One response as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RUNNING: Final = ("queued", "in_progress")
"""The states of a response that is being generated."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What its dialect wrote, and what the store knows of it.

    Attributes:
        caller: the name of the key that it was made with; nobody else sees it.
        previous: the id of the response after which it goes on.
        status: `queued`, `in_progress`, or how it ended.
        owner: the worker that generates it, or did.
        response: JSON text, for clients.
        items: JSON text of the input, without that of earlier responses.
    """

    id: str
    caller: str
    previous: str | None
    status: str
    owner: str
    response: bytes
    items: bytes

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, as far as its worker has said."""
        return self.status in RUNNING

    @property
    def size(self) -> int:
        """What it counts for where bytes are bounded."""
        return len(self.response) + len(self.items)
