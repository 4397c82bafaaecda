"""The accounting log: a JSON line per request, appended by every worker, rotated by any."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
from loguru import logger

MAX_QUEUED: Final = 10_000
BATCH: Final = 256
COMPLAIN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class AccountingEntry:
    """Who used what. `time` is UTC in ISO 8601; `outcome` a finish reason or an error's code."""

    time: str
    request_id: str
    key: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    outcome: str
    queue_seconds: float
    ttft_seconds: float | None
    duration_seconds: float


class AccountingLog:
    """Appends in a thread of its own, so that nobody waits for a disk.

    Several processes may write to one file: each line is one write, and the file is rotated
    (to `.1`, the older ones one further, `keep` of them) under a lock beside it. When the disk
    is so slow that the queue is full, entries are dropped and their number is logged.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        keep: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._clock = clock
        self._queue: queue.Queue[AccountingEntry | None] = queue.Queue(MAX_QUEUED)
        self._descriptor: int | None = None
        self._dropped = 0
        self._complained_at: float | None = None
        self._thread = threading.Thread(target=self._write_all, name="accounting")
        self._thread.start()

    def write(self, entry: AccountingEntry) -> None:
        """Hand one entry over; returns at once."""
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is left and stop; doing it twice is harmless."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _write_all(self) -> None:
        while True:
            entries, is_last = self._take()
            try:
                for entry in entries:
                    self._append(orjson.dumps(asdict(entry)) + b"\n")
            except OSError as error:
                self._forget()
                self._complain(f"{len(entries)} entries of the accounting log may be lost: {error}")
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._complain(f"the accounting log is too slow: {dropped} entries were dropped")
            if is_last:
                self._forget()
                return

    def _take(self) -> tuple[list[AccountingEntry], bool]:
        entries: list[AccountingEntry] = []
        entry = self._queue.get()
        while entry is not None:
            entries.append(entry)
            if len(entries) == BATCH:
                return entries, False
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return entries, False
        return entries, True

    def _append(self, line: bytes) -> None:
        descriptor = self._current()
        if os.fstat(descriptor).st_size + len(line) > self._max_bytes:
            self._rotate()
            descriptor = self._current()
        os.write(descriptor, line)

    def _current(self) -> int:
        """The file that has the name now; another process may have rotated it meanwhile."""
        if self._descriptor is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._path).st_ino == os.fstat(self._descriptor).st_ino:  # noqa: PTH116
                    return self._descriptor
            self._forget()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        return self._descriptor

    def _rotate(self) -> None:
        with self._lock():
            full = self._descriptor
            if full is None or self._current() != full:
                return  # another process was faster, and the name means a fresh file
            for number in range(self._keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    self._rotated(number).replace(self._rotated(number + 1))
            self._path.replace(self._rotated(1))

    def _rotated(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with self._path.with_name(self._path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _complain(self, message: str) -> None:
        now = self._clock()
        if self._complained_at is None or now - self._complained_at > COMPLAIN_SECONDS:
            self._complained_at = now
            logger.error("{}", message)
