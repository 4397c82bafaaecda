"""What a durable queue of batches must be able to do. `sqlite/` and `redis/` are two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmserve.jobs.batch import Batch, Status
from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.line import HeldLine, InputLine, LineKey, Result


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one key, and all together, may have there at a time."""

    total_bytes: int
    key_bytes: int
    key_batches: int
    key_requests: int
    key_lines: int


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's name for one creation, and a digest of what it asked for."""

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list, the newest first."""

    limit: int
    after: str | None = None
    is_ascending: bool = False


@dataclass(frozen=True, slots=True)
class Depth:
    """How much there is to do."""

    open_batches: int
    waiting_lines: int


class JobQueue(Protocol):
    """Several workers of several boxes may use one. Every method is one transaction: it happened
    or it did not, and what happened survives the end of any process.

    A batch is driven by its `due` time, at which somebody must look at it: whoever takes it has it
    until a later time. A line is due when it is added, when it is to be tried again, or when the
    lease of the worker that has it is over.

    Raises:
        StoreFailed: the queue cannot be reached or written.
    """

    async def reserve(self, file: BatchFile) -> None:
        """Add a file that is about to be written.

        Raises:
            QuotaExceeded: there is no room for it.
        """
        ...

    async def put_file(self, file: BatchFile) -> None:
        """Replace what is known of a file, or add it, whatever the room."""
        ...

    async def find_file(self, caller: str, file_id: str) -> BatchFile | None:
        """The caller's file of this id, if it is complete and not expired."""
        ...

    async def list_files(
        self, caller: str, purposes: Sequence[Purpose], page: Page
    ) -> list[BatchFile]:
        """One more than the page's limit, if there are."""
        ...

    async def forget_file(self, file_id: str) -> bool:
        """Whether there was one."""
        ...

    async def expired_files(self, limit: int) -> list[BatchFile]:
        """Files whose time is over, whoever's they are."""
        ...

    async def create(self, batch: Batch, due: float, idempotency: Idempotency | None) -> Batch:
        """Add a batch, or find the one that the same creation made before.

        Raises:
            QuotaExceeded: the key has too many open ones.
            IdempotencyKeyReused: the same key came with another request.
        """
        ...

    async def find(self, caller: str, batch_id: str) -> Batch | None:
        """The caller's batch of this id, with its counts."""
        ...

    async def list_batches(self, caller: str, page: Page) -> list[Batch]:
        """One more than the page's limit, if there are; without single requests."""
        ...

    async def uses_file(self, caller: str, file_id: str) -> bool:
        """Whether an open batch of the caller reads this file."""
        ...

    async def update(self, batch: Batch, was: Status, due: float, *, clears: bool = False) -> bool:
        """Replace a batch, if its state is still the one it was; whether it was. `clears` its
        lines and their results."""
        ...

    async def take_batch(self, seconds: float) -> Batch | None:
        """A batch that is due, which is then due again after so many seconds."""
        ...

    async def hold_batch(self, batch_id: str, seconds: float) -> None:
        """It is not due before so many seconds."""
        ...

    async def remove(self, batch_id: str) -> None:
        """Forget a batch and all that belongs to it."""
        ...

    async def start(self, batch: Batch, lines: Sequence[InputLine], due: float) -> bool:
        """Add the lines of a batch that was being validated; whether it still was.

        Raises:
            QuotaExceeded: the key has too many lines in its open batches.
        """
        ...

    async def take_lines(self, owner: str, limit: int, seconds: float) -> list[HeldLine]:
        """Lines that are due, for this worker alone for so many seconds. They are one batch's, the
        one that waited longest."""
        ...

    async def hold_lines(self, owner: str, keys: Sequence[LineKey], seconds: float) -> set[LineKey]:
        """Keep them for longer. Returns those that this worker still has and that are wanted."""
        ...

    async def put_off(self, owner: str, key: LineKey, seconds: float) -> None:
        """Try the line again after so many seconds."""
        ...

    async def give_back(self, owner: str, keys: Sequence[LineKey]) -> None:
        """Nothing was done with them; another worker may have them at once."""
        ...

    async def finish(self, key: LineKey, result: Result) -> bool:
        """Keep the result of a line. The first one counts, whoever ran the line, and none when
        the batch is no longer in progress; whether this was it. After the last line the batch is
        due."""
        ...

    async def results(self, batch_id: str, after: int, limit: int) -> list[Result]:
        """Results of lines with higher numbers than this, in order."""
        ...

    async def unfinished(self, batch_id: str, after: int, limit: int) -> list[InputLine]:
        """Lines without a result, of higher numbers than this, in order."""
        ...

    async def depth(self) -> Depth:
        """How much there is to do."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...
