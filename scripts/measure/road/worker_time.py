"""What a server's only worker has taken of the processors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

WORKER: Final = "llmserve.workers.worker"


@dataclass(frozen=True, slots=True)
class WorkerTime:
    """Seconds of a core: of the thread with the event loop, and of all threads together."""

    loop: float
    all: float

    def __sub__(self, other: Self) -> WorkerTime:
        return WorkerTime(self.loop - other.loop, self.all - other.all)


def worker_of(pid: int) -> int:
    """The process id of the only worker that this server has started.

    Raises:
        LookupError: there is none.
    """
    children = psutil.Process(pid).children(recursive=True)
    found = [child.pid for child in children if WORKER in child.cmdline()]
    if not found:
        raise LookupError(f"process {pid} has no worker")
    return found[0]


def worker_time(worker: int) -> WorkerTime:
    """Up to now. The event loop is on a worker's first thread. Linux only."""
    times = {
        int(thread.name): int((thread / "schedstat").read_text().split()[0]) / 1e9
        for thread in Path(f"/proc/{worker}/task").iterdir()
    }
    return WorkerTime(times[worker], sum(times.values()))
