"""A file that a client uploaded, or that a batch wrote; `contents.py` has its content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self

import orjson

LEAST_BYTES: Final = 4096
"""What the smallest file counts for, so that bytes bound the number of files, too."""


class Purpose(StrEnum):
    """OpenAI's words, and one for what clients do not see as a file."""

    BATCH = "batch"
    OUTPUT = "batch_output"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class BatchFile:
    """Times are seconds since 1970.

    Attributes:
        caller: the name of the key that made it; nobody else sees it.
        size: in bytes; while it is uploaded, what it may have at most.
        is_complete: whether its content is there.
    """

    id: str
    caller: str
    filename: str
    purpose: Purpose
    size: int
    created_at: float
    expires_at: float
    is_complete: bool = False

    @property
    def charge(self) -> int:
        """What it counts for where bytes are bounded."""
        return max(LEAST_BYTES, self.size)

    def complete(self, size: int) -> Self:
        """The same file with its content."""
        return replace(self, size=size, is_complete=True)

    def to_json(self) -> bytes:
        """For a store."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """As it was stored."""
        fields = orjson.loads(text)
        return cls(**fields | {"purpose": Purpose(fields["purpose"])})
