"""The series of all workers of a box, from the files that prometheus_client keeps in one directory.

Files are named after `process_identity`, so that no process ever inherits a dead one's values.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from loguru import logger
from prometheus_client import values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import MultiProcessValue

from llmserve.observability.families import families
from llmserve.observability.history import History, absorb, gather, kind_of
from llmserve.observability.process_identity import has_birth, identity, is_alive

LOCK: Final = "lock"
MAX_DEAD_FILES: Final = 64
"""More files of dead workers are made into one: a scrape reads them all."""

SharedValue: Final = MultiProcessValue(identity)  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped


def name_files_by_identity() -> None:
    """Series that are made from now on live in files of that name. Twice is harmless."""
    values.ValueClass = SharedValue


class WorkerFiles(Collector):
    """Reads what every worker wrote, and forgets of a dead one what was true only while it lived.

    Its live gauges go; its counts stay, they are history. Readers share a lock which who makes
    history holds alone, for the milliseconds that it takes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        is_alive: Callable[[str], bool] = is_alive,
        max_dead_files: int = MAX_DEAD_FILES,
    ) -> None:
        self._directory = directory
        self._is_alive = is_alive
        self._max_dead_files = max_dead_files

    def collect(self) -> Iterable[Metric]:
        """All families; blocks on files."""
        self._forget_gauges()
        self._make_history()
        with self._locked(fcntl.LOCK_SH):
            return [*families(gather(*self._counts())), *self._gauges()]

    def _forget_gauges(self) -> None:
        for file in self._directory.glob("gauge_live*.db"):
            if not self._is_alive(_owner(file)):
                file.unlink(missing_ok=True)

    def _make_history(self) -> None:
        if len(self._dead()) <= self._max_dead_files:
            return
        with self._locked(fcntl.LOCK_EX):
            dead = self._dead()
            if len(dead) <= self._max_dead_files:
                return  # another process was faster
            absorb(self._directory, dead)
        logger.debug("{} files of dead workers' series became history", len(dead))

    def _dead(self) -> list[Path]:
        files, _ = self._counts()
        return [f for f in files if has_birth(_owner(f)) and not self._is_alive(_owner(f))]

    def _counts(self) -> tuple[list[Path], History]:
        """Files that the history does not have yet."""
        history = History.read(self._directory)
        found = (f for f in self._directory.glob("*.db") if kind_of(f) != "gauge")
        return sorted(f for f in found if f.name not in history.absorbed), history

    def _gauges(self) -> Iterable[Metric]:
        # An empty one is about to be filled, or its worker was killed just before.
        files = [str(f) for f in sorted(self._directory.glob("gauge_*.db")) if _size(f)]
        return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self._directory / LOCK).open("a") as lock:
            fcntl.flock(lock, how)
            yield


def _owner(file: Path) -> str:
    return file.name.removesuffix(".db").rpartition("_")[2]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # another scrape was faster to forget it
        return 0
