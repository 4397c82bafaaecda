"""What an admin route asks: the workers of a box, or whoever else carries out commands."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from llmserve.operations.command import Command
from llmserve.operations.reply import Reply


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """One message of one worker."""

    worker: int
    message: Reply

    @property
    def is_last(self) -> bool:
        """Whether no more messages of this worker follow."""
        return self.message["event"] in ("done", "error")


class Operations(Protocol):
    """Sends a command to every worker."""

    def run(self, command: Command) -> AsyncGenerator[WorkerReply]:
        """All workers' messages as they come, including one last message from each."""
        ...

    async def collect(self, command: Command) -> list[WorkerReply]:
        """The last message of each worker, by number."""
        ...
