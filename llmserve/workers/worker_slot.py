"""One of the workers that a supervisor keeps running, and the delay before it is started again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llmserve.workers.process import WorkerProcess

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0
MAX_DOUBLINGS: Final = 16


@dataclass(slots=True, eq=False)
class WorkerSlot:
    """`process` is `None` while the worker is being replaced, which is due at `start_at`."""

    process: WorkerProcess | None = None
    failures: int = 0
    start_at: float = 0.0

    def back_off(self, now: float) -> float:
        """Start the next process later the more often it failed; returns in how many seconds."""
        doublings = min(self.failures - 1, MAX_DOUBLINGS)
        delay = min(FIRST_DELAY_SECONDS * float(2**doublings), LONGEST_DELAY_SECONDS)
        self.start_at = now + delay
        return delay
