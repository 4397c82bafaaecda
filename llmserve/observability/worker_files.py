"""The series of all workers of a box, from the files that each keeps in one directory.

Collecting never fails because of the files: it uses those that can be read, and this process's own
values that are in none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from loguru import logger
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from llmserve.observability.families import families
from llmserve.observability.history import CorruptSeries, History, absorb, gather, kind_of
from llmserve.observability.process_identity import has_start_time, is_alive
from llmserve.trouble import Trouble

MAX_DEAD_FILES: Final = 64
"""If dead workers left more files, they are merged into one: a scrape reads them all."""

Unpublished = Callable[[], Mapping[str, Mapping[str, float]]]
"""Values by the name of the file where they belong, and by prometheus_client's key."""


class WorkerFiles(Collector):
    """Reads the files of all workers, and drops the gauges of dead ones; their counts stay.

    Readers share a lock; merging files into the history takes it exclusively, for some
    milliseconds. `unpublished` returns values of this process that others cannot read.
    """

    def __init__(
        self,
        directory: Path,
        *,
        unpublished: Unpublished = dict,
        is_alive: Callable[[str], bool] = is_alive,
        max_dead_files: int = MAX_DEAD_FILES,
    ) -> None:
        self._directory = directory
        self._unpublished = unpublished
        self._is_alive = is_alive
        self._max_dead_files = max_dead_files
        name = directory.resolve()
        self._trouble = Trouble(
            f"the files of dead workers in {name} cannot be merged",
            "they stay, and every scrape reads them all",
        )
        self._unread = Trouble(
            f"not all series in {name} can be read",
            "/metrics lacks them; corrupt files may be removed",
        )

    def collect(self) -> Iterable[Metric]:
        """All families; blocks on files."""
        self._forget_gauges()
        self._make_history()
        unpublished = self._unpublished()
        problems: list[Exception] = []
        with self._locked(fcntl.LOCK_SH, problems):
            counts, history = self._counts(problems)
            files = [*counts, *sorted(self._directory.glob("gauge_*.db"))]
            gathered = gather((f for f in files if f.name not in unpublished), history)
        problems.extend(gathered.unread.values())
        for name, found in unpublished.items():
            for key, value in found.items():
                gathered.values[kind_of(name)][key].append(value)
        if problems:
            self._unread.begins(problems[0])
        else:
            self._unread.is_over()
        return list(families(gathered.values))

    def _forget_gauges(self) -> None:
        for file in self._directory.glob("gauge_live*.db"):
            if not self._is_alive(_owner(file)):
                with contextlib.suppress(OSError):  # another scrape was faster
                    file.unlink()

    def _make_history(self) -> None:
        if len(self._dead()) <= self._max_dead_files:
            return
        problems: list[Exception] = []
        with self._locked(fcntl.LOCK_EX, problems):
            if problems:
                return  # `collect` meets and reports them, too
            dead = self._dead()
            if len(dead) <= self._max_dead_files:
                return  # another process was faster
            try:
                absorb(self._directory, dead)
            except OSError as error:
                self._trouble.begins(error)
                return
        self._trouble.is_over()
        logger.debug("{} files of dead workers' series were merged into the history", len(dead))

    def _dead(self) -> list[Path]:
        files, _ = self._counts([])
        return [f for f in files if has_start_time(_owner(f)) and not self._is_alive(_owner(f))]

    def _counts(self, problems: list[Exception]) -> tuple[list[Path], History]:
        """The files that are not in the history, and the history; an unreadable one is empty."""
        try:
            history = History.read(self._directory)
        except (OSError, CorruptSeries) as error:
            problems.append(error)
            history = History({})
        found = (f for f in self._directory.glob("*.db") if not f.name.startswith("gauge_"))
        return sorted(f for f in found if f.name not in history.absorbed), history

    @contextlib.contextmanager
    def _locked(self, how: int, problems: list[Exception]) -> Iterator[None]:
        """Lock the directory itself: a lock file would need disk space.

        An error in locking is added to `problems` instead of being raised.
        """
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, how)
            except FileNotFoundError:
                pass  # until it is created again there is nothing to read
            except OSError as error:
                problems.append(error)
            yield


def _owner(file: Path) -> str:
    return file.name.removesuffix(".db").rpartition("_")[2]
