"""Lines and their results in the database. It blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from llmserve.jobs.batch import Status
from llmserve.jobs.line import HeldLine, InputLine, LineKey, Result
from llmserve.storage.sqlite_file import transaction


class LineTable:
    """Owned by the thread that made the connection."""

    def __init__(self, sql: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._sql = sql
        self._clock = clock

    def take(self, owner: str, limit: int, seconds: float) -> list[HeldLine]:
        now = self._clock()
        if self._next_batch(now) is None:
            return []  # most of the time, and without a lock
        with transaction(self._sql):
            found = self._next_batch(now)
            if found is None:
                return []
            batch_id, caller, file_id = found
            self._sql.execute("UPDATE batches SET served = ? WHERE id = ?", (now, batch_id))
            rows = self._sql.execute(
                "UPDATE lines SET due = ?, owner = ?, taken = taken + 1 WHERE batch = ? AND "
                "number IN (SELECT number FROM lines WHERE batch = ? AND due <= ? "
                "ORDER BY due, number LIMIT ?) "
                "RETURNING number, place, size, custom_id, taken, attempts",
                (now + seconds, owner, batch_id, batch_id, now, limit),
            ).fetchall()
        return [
            HeldLine(
                key=LineKey(batch_id, row[0]),
                caller=caller,
                input_file_id=file_id,
                line=InputLine(*row[:4]),
                attempts=row[5],
                losses=row[4] - 1 - row[5],
            )
            for row in sorted(rows)
        ]

    def hold(self, owner: str, keys: Sequence[LineKey], seconds: float) -> set[LineKey]:
        until = self._clock() + seconds
        with transaction(self._sql):
            return {
                key
                for key in keys
                if self._sql.execute(
                    "UPDATE lines SET due = ? WHERE batch = ? AND number = ? AND owner = ? "
                    "AND EXISTS (SELECT 1 FROM batches WHERE id = batch AND status = ?)",
                    (until, *key, owner, Status.IN_PROGRESS),
                ).rowcount
            }

    def put_off(self, owner: str, key: LineKey, seconds: float) -> None:
        with transaction(self._sql):
            self._sql.execute(
                "UPDATE lines SET due = ?, owner = '', attempts = attempts + 1 "
                "WHERE batch = ? AND number = ? AND owner = ?",
                (self._clock() + seconds, *key, owner),
            )

    def give_back(self, owner: str, keys: Sequence[LineKey]) -> None:
        with transaction(self._sql):
            self._sql.executemany(
                "UPDATE lines SET due = 0, owner = '', taken = taken - 1 "
                "WHERE batch = ? AND number = ? AND owner = ?",
                [(*key, owner) for key in keys],
            )

    def finish(self, key: LineKey, result: Result) -> bool:
        with transaction(self._sql):
            is_wanted = self._sql.execute(
                "SELECT 1 FROM batches WHERE id = ? AND status = ?",
                (key.batch_id, Status.IN_PROGRESS),
            ).fetchone()
            if is_wanted is None:
                return False
            is_first = self._sql.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?)",
                (*key, result.is_success, result.content),
            ).rowcount
            if not is_first:
                return False
            self._sql.execute("DELETE FROM lines WHERE batch = ? AND number = ?", key)
            self._sql.execute(
                "UPDATE batches SET completed = completed + ?1, failed = failed + 1 - ?1, "
                "result_bytes = result_bytes + ?2, "
                "due = iif(completed + failed + 1 >= total, 0, due) WHERE id = ?3",
                (result.is_success, len(result.content), key.batch_id),
            )
        return True

    def results(self, batch_id: str, after: int, limit: int) -> list[Result]:
        rows = self._sql.execute(
            "SELECT number, is_success, content FROM results "
            "WHERE batch = ? AND number > ? ORDER BY number LIMIT ?",
            (batch_id, after, limit),
        )
        return [Result(number, bool(is_success), text) for number, is_success, text in rows]

    def unfinished(self, batch_id: str, after: int, limit: int) -> list[InputLine]:
        rows = self._sql.execute(
            "SELECT number, place, size, custom_id FROM lines "
            "WHERE batch = ? AND number > ? ORDER BY number LIMIT ?",
            (batch_id, after, limit),
        )
        return [InputLine(*row) for row in rows]

    def _next_batch(self, now: float) -> tuple[str, str, str] | None:
        """Its id, its caller and its input."""
        found: tuple[str, str, str] | None = self._sql.execute(
            "SELECT id, caller, input_file_id FROM batches WHERE is_open AND status = ? "
            "AND EXISTS (SELECT 1 FROM lines WHERE batch = id AND due <= ?) "
            "ORDER BY served LIMIT 1",
            (Status.IN_PROGRESS, now),
        ).fetchone()
        return found
