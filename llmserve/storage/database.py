"""The table of stored responses in SQLite; several processes may use one file. It blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmserve.storage.sqlite_file import open_sqlite, transaction
from llmserve.storage.stored import RUNNING, Stored

SETTING: Final = "responses_store"
MOST_EVICTED: Final = 256
"""Responses that one new one may push out."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    previous TEXT,
    status TEXT NOT NULL,
    is_running INTEGER NOT NULL,
    owner TEXT NOT NULL,
    used_at REAL NOT NULL,
    bytes INTEGER NOT NULL,
    response BLOB NOT NULL,
    items BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON responses (used_at);
CREATE INDEX IF NOT EXISTS by_caller ON responses (caller, is_running, bytes);
CREATE INDEX IF NOT EXISTS by_owner ON responses (owner) WHERE is_running;
"""
OLDEST_OF_THE_MOST: Final = """
DELETE FROM responses WHERE id = (
    SELECT id FROM responses WHERE NOT is_running AND caller = (
        SELECT caller FROM responses WHERE NOT is_running GROUP BY caller ORDER BY count(*) DESC
    ) ORDER BY used_at LIMIT 1
)
"""
OLDEST_OF_THE_LARGEST: Final = """
DELETE FROM responses WHERE id = (
    SELECT id FROM responses WHERE NOT is_running AND caller = (
        SELECT caller FROM responses WHERE NOT is_running GROUP BY caller ORDER BY sum(bytes) DESC
    ) ORDER BY used_at LIMIT 1
)
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept, and for how long after its last use."""

    responses: int
    bytes: int
    seconds: float


class Database:
    """Owned by the thread that made it."""

    def __init__(self, path: Path, bounds: Bounds, clock: Callable[[], float] = time.time) -> None:
        """The table in this file, which is made if it is not there.

        Raises:
            ConfigurationError: it cannot be used.
        """
        self._bounds = bounds
        self._clock = clock
        self._sql = open_sqlite(path, SCHEMA, SETTING)

    def insert(self, new: Stored) -> None:
        """Keep one more. What is too old goes, and then the oldest of the callers who have the
        most, until it is within bounds: the new one itself if it alone is too large."""
        with transaction(self._sql):
            self._sql.execute("DELETE FROM responses WHERE used_at < ?", (self._oldest(),))
            self._sql.execute(
                "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    new.id, new.caller, new.previous, new.status, new.is_running, new.owner,
                    self._clock(), new.size, new.response, new.items,
                ),
            )  # fmt: skip
            self._evict()

    def update(self, response_id: str, status: str, response: bytes) -> bool:
        """What has become of a response; whether it was still running."""
        with transaction(self._sql):
            changed = self._sql.execute(
                "UPDATE responses SET status = ?, is_running = ?, response = ?, "
                "bytes = length(items) + ?, used_at = ? WHERE id = ? AND is_running",
                (status, status in RUNNING, response, len(response), self._clock(), response_id),
            ).rowcount
            self._evict()
        return changed > 0

    def find(self, caller: str, response_id: str) -> Stored | None:
        """The caller's response of this id."""
        row = self._sql.execute(
            "SELECT id, caller, previous, status, owner, response, items FROM responses "
            "WHERE id = ? AND caller = ? AND used_at >= ?",
            (response_id, caller, self._oldest()),
        ).fetchone()
        return None if row is None else Stored(*row)

    def use(self, ids: Sequence[str]) -> None:
        """These are used now, and so kept for longer."""
        with transaction(self._sql):
            self._sql.executemany(
                "UPDATE responses SET used_at = ? WHERE id = ?",
                [(self._clock(), response_id) for response_id in ids],
            )

    def delete(self, caller: str, response_id: str) -> bool:
        """Forget the caller's response; whether there was one."""
        with transaction(self._sql):
            deleted = self._sql.execute(
                "DELETE FROM responses WHERE id = ? AND caller = ? AND used_at >= ?",
                (response_id, caller, self._oldest()),
            ).rowcount
        return deleted > 0

    def running(self, owner: str) -> set[str]:
        """The ids of those that this worker generates, and that nobody cancelled or deleted."""
        rows = self._sql.execute(
            "SELECT id FROM responses WHERE owner = ? AND is_running", (owner,)
        )
        return {row[0] for row in rows}

    def close(self) -> None:
        """Let go of the file."""
        self._sql.close()

    def _oldest(self) -> float:
        return self._clock() - self._bounds.seconds

    def _evict(self) -> None:
        """One that is running counts, and stays."""
        for _ in range(MOST_EVICTED):
            count, size = self._sql.execute(
                "SELECT count(*), total(bytes) FROM responses"
            ).fetchone()
            if count <= self._bounds.responses and size <= self._bounds.bytes:
                return
            are_many = count > self._bounds.responses
            evict = OLDEST_OF_THE_MOST if are_many else OLDEST_OF_THE_LARGEST
            if not self._sql.execute(evict).rowcount:
                return


def check_store(path: Path) -> None:
    """Check, before any worker starts, that this file can be used.

    Raises:
        ConfigurationError: it cannot.
    """
    open_sqlite(path, SCHEMA, SETTING).close()
