"""One batch: what was asked for, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Self

import orjson


class Status(StrEnum):
    """OpenAI's words."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OPEN: Final = frozenset(
    {Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING}
)
"""The states of a batch that has not ended."""


CHAT_PREFIX: Final = "chatcmpl-"
"""Of the id of a single request, as of its answer's."""


class Kind(StrEnum):
    """What a client put there."""

    BATCH = "batch"
    CHAT = "chat.completion"
    """A single request, whose only line is the whole input file."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Lines, by what has become of them."""

    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def are_all_in(self) -> bool:
        """Whether every line has its result."""
        return self.completed + self.failed >= self.total


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to tell that a batch ended, and how often that was tried. It is kept with the batch
    until it was delivered or given up."""

    url: str
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Times are seconds since 1970.

    Attributes:
        caller: the name of the key that made it; nobody else sees it.
        window: as the client wrote it, "24h".
        expires_at: when its window ends.
        output_seconds: how long its output files are kept; `None` is as long as other files.
        times: when it reached a state, by names such as `in_progress_at`.
        outcome: the state in which it will end, once that is certain.
        errors: why its input is not accepted.
        output_id, error_id: the files that are written; the client sees `output_file_id` and
            `error_file_id`, when they are there.
        counts: kept by the queue as lines end.
    """

    id: str
    kind: Kind
    caller: str
    endpoint: str
    input_file_id: str
    window: str
    created_at: float
    expires_at: float
    metadata: Mapping[str, str] | None = None
    output_seconds: float | None = None
    status: Status = Status.VALIDATING
    times: Mapping[str, float] = field(default_factory=dict)
    outcome: Status | None = None
    errors: tuple[Mapping[str, Any], ...] = ()
    output_id: str | None = None
    error_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    webhook: Webhook | None = None
    counts: Counts = Counts()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.status in OPEN

    @property
    def ended_at(self) -> float | None:
        """When it ended, if it has."""
        return None if self.is_open else self.times[f"{self.status}_at"]

    def at(self, status: Status, now: float, **changes: Any) -> Self:
        """The same batch in another state."""
        times = {**self.times, f"{status}_at": now}
        return replace(self, status=status, times=times, **changes)

    def to_json(self) -> bytes:
        """For a store."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, text: bytes, counts: Counts) -> Self:
        """As it was stored; the store counts by itself."""
        fields = orjson.loads(text) | {"counts": counts}
        webhook, outcome = fields["webhook"], fields["outcome"]
        return cls(
            **fields
            | {
                "kind": Kind(fields["kind"]),
                "status": Status(fields["status"]),
                "outcome": None if outcome is None else Status(outcome),
                "errors": tuple(fields["errors"]),
                "webhook": None if webhook is None else Webhook(**webhook),
            }
        )
