"""The accounting log: a JSON line per request, written by every worker in a thread of its own."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
from loguru import logger

from llmserve.observability.shared_file import SharedFile

MAX_QUEUED: Final = 10_000
BATCH: Final = 256
RETRY_SECONDS: Final = 1.0
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
    """Appends to a `SharedFile`, and nobody waits for a disk.

    A batch that the disk refuses is tried again until it works or the log is closed. Meanwhile
    entries queue, `MAX_QUEUED` of them; what comes after that is lost, and the log tells how
    many: at once, then at most once in `COMPLAIN_SECONDS`, and the rest when it is closed.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        keep: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = SharedFile(path, max_bytes, keep)
        self._queue: queue.Queue[AccountingEntry | None] = queue.Queue(MAX_QUEUED)
        self._losses = _Losses(path, clock)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="accounting")
        self._thread.start()

    @property
    def num_lost(self) -> int:
        """Entries that never came to the file."""
        return self._losses.total

    def write(self, entry: AccountingEntry) -> None:
        """Hand one entry over; returns at once."""
        if self._is_closing.is_set():
            self._losses.add(1, "it is closed")
            return
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self._losses.add(1, "the disk is too slow")

    def close(self) -> None:
        """Write what is left and stop; doing it twice is harmless."""
        if self._is_closing.is_set():
            return
        self._is_closing.set()
        self._queue.put(None)  # waits for a place at most as long as the disk takes
        self._thread.join()
        self._losses.tell(at_once=True)

    def _write_all(self) -> None:
        lines: deque[bytes] = deque()
        self._append(lines)  # a path that cannot be written is known at start
        is_last = False
        while not is_last:
            is_last = self._take(lines)
            while lines and not self._append(lines):
                if self._is_closing.wait(RETRY_SECONDS) and not self._append(lines):
                    while not is_last:  # a try for each batch would hold up the stop
                        is_last = self._take(lines)
                    self._losses.add(len(lines), "the file cannot be written")
                    lines.clear()
            self._losses.tell()
        self._file.close()

    def _append(self, lines: deque[bytes]) -> bool:
        try:
            self._file.append(lines)
        except OSError as error:
            self._losses.complain(error)
            return False
        return True

    def _take(self, lines: deque[bytes]) -> bool:
        """Wait for entries; returns whether they are the last ones."""
        entry = self._queue.get()
        while entry is not None:
            lines.append(_line(entry))
            if len(lines) == BATCH:
                return False
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return False
        return True


class _Losses:
    """Counts what is lost and complains, but not all the time. Any thread may call it."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.total = 0
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._why = ""
        self._told = 0
        self._told_at: float | None = None
        self._complained_at: float | None = None

    def add(self, count: int, why: str) -> None:
        with self._lock:
            self.total += count
            self._why = why
        self.tell()

    def tell(self, *, at_once: bool = False) -> None:
        with self._lock:
            lost = self.total - self._told
            if not lost or not (at_once or self._is_due(self._told_at)):
                return
            self._told, self._told_at = self.total, self._clock()
        logger.error(
            "{} entries for the accounting log {} are lost: {}", lost, self._path, self._why
        )

    def complain(self, error: OSError) -> None:
        with self._lock:
            if not self._is_due(self._complained_at):
                return
            self._complained_at = self._clock()
        logger.error("cannot write the accounting log {}: {}", self._path, error)

    def _is_due(self, last_at: float | None) -> bool:
        return last_at is None or self._clock() - last_at >= COMPLAIN_SECONDS


def _line(entry: AccountingEntry) -> bytes:
    try:
        return orjson.dumps(asdict(entry)) + b"\n"
    except TypeError:  # a lone surrogate in a name: better escaped than lost
        return json.dumps(asdict(entry)).encode() + b"\n"
