"""The accounting log: a JSON line per request, which each worker writes in a thread of its own."""

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
    """Who used how much. `time` is UTC in ISO 8601; `outcome` a finish reason or an error code."""

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
    """Appends to a `SharedFile` without ever making a request wait for the disk.

    A batch that cannot be written is tried again until it works or the log is closed. Meanwhile up
    to `MAX_QUEUED` entries wait; any more are lost. The number lost is logged at once, then at most
    every `COMPLAIN_SECONDS`, and the rest on closing.
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

    def write(self, entry: AccountingEntry) -> None:
        """Queue one entry; returns at once."""
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
        self._queue.put(None)  # if the queue is full, waits for the disk once
        self._thread.join()
        self._losses.report(at_once=True)

    def _write_all(self) -> None:
        lines: deque[bytes] = deque()
        self._append(lines)  # a path that cannot be written is reported at start
        is_last = False
        while not is_last:
            is_last = self._take(lines)
            while lines and not self._append(lines):
                if self._is_closing.wait(RETRY_SECONDS) and not self._append(lines):
                    while not is_last:  # trying each batch again would delay the stop
                        is_last = self._take(lines)
                    self._losses.add(len(lines), "the file cannot be written")
                    lines.clear()
            self._losses.report()
        self._file.close()

    def _append(self, lines: deque[bytes]) -> bool:
        try:
            self._file.append(lines)
        except OSError as error:
            self._losses.complain(error)
            return False
        return True

    def _take(self, lines: deque[bytes]) -> bool:
        """Wait for entries and add their lines; returns whether they are the last ones."""
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
    """Counts lost entries and logs them at a limited rate. Any thread may call it."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._total = 0
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._why = ""
        self._reported = 0
        self._reported_at: float | None = None
        self._complained_at: float | None = None

    def add(self, count: int, why: str) -> None:
        with self._lock:
            self._total += count
            self._why = why
        self.report()

    def report(self, *, at_once: bool = False) -> None:
        with self._lock:
            lost = self._total - self._reported
            if not lost or not (at_once or self._is_due(self._reported_at)):
                return
            self._reported, self._reported_at = self._total, self._clock()
        logger.error(
            "{} entries of the accounting log {} are lost: {}", lost, self._path, self._why
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
    except TypeError:  # a lone surrogate in a name, which `json` escapes
        return json.dumps(asdict(entry)).encode() + b"\n"
