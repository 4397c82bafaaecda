"""What becomes known of one request at one upstream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How it went there."""

    ANSWERED = "answered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    TIMEOUT = "timeout"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """Attributes:
    is_retry: whether another upstream was asked before.
    first_token_seconds: until something of the answer came; `None` where nothing did.
    """

    url: str
    outcome: Outcome
    is_retry: bool
    first_token_seconds: float | None = None
