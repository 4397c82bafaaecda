"""Batches in the database. It blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

from llmserve.errors import IdempotencyKeyReused
from llmserve.jobs.batch import Batch, Counts, Kind, Status
from llmserve.jobs.line import InputLine
from llmserve.jobs.queue import Depth, Idempotency, Page, Quotas
from llmserve.jobs.room import check_batches, check_lines
from llmserve.storage.sqlite_file import transaction

RECORD: Final = "record, total, completed, failed"


class BatchTable:
    """Owned by the thread that made the connection."""

    def __init__(self, sql: sqlite3.Connection, quotas: Quotas, clock: Callable[[], float]) -> None:
        self._sql = sql
        self._quotas = quotas
        self._clock = clock

    def create(self, batch: Batch, due: float, idempotency: Idempotency | None) -> Batch:
        with transaction(self._sql):
            if idempotency is not None:
                found = self._sql.execute(
                    f"SELECT digest, {RECORD} FROM batches "
                    "WHERE caller = ? AND idempotency_key = ?",
                    (batch.caller, idempotency.key),
                ).fetchone()
                if found is not None:
                    digest, *row = found
                    if digest != idempotency.digest:
                        raise IdempotencyKeyReused(idempotency.key)
                    return _batch(row)
            self._check_batches(batch)
            self._sql.execute(
                "INSERT INTO batches (id, place, caller, kind, status, is_open, input_file_id, "
                "due, idempotency_key, digest, record) VALUES (?, "
                "(SELECT coalesce(max(place), 0) + 1 FROM batches), ?, ?, ?, 1, ?, ?, ?, ?, ?)",
                (
                    *(batch.id, batch.caller, batch.kind, batch.status, batch.input_file_id, due),
                    None if idempotency is None else idempotency.key,
                    None if idempotency is None else idempotency.digest,
                    batch.to_json(),
                ),
            )
        return batch

    def find(self, caller: str, batch_id: str) -> Batch | None:
        row = self._sql.execute(
            f"SELECT {RECORD} FROM batches WHERE id = ? AND caller = ?", (batch_id, caller)
        ).fetchone()
        return None if row is None else _batch(row)

    def listed(self, caller: str, page: Page) -> list[Batch]:
        rows = self._sql.execute(
            f"SELECT {RECORD} FROM batches WHERE caller = ?1 AND kind = ?2 AND "
            "(?3 IS NULL OR place < (SELECT place FROM batches WHERE id = ?3)) "
            "ORDER BY place DESC LIMIT ?4",
            (caller, Kind.BATCH, page.after, page.limit + 1),
        )
        return [_batch(row) for row in rows]

    def uses_file(self, caller: str, file_id: str) -> bool:
        found = self._sql.execute(
            "SELECT 1 FROM batches WHERE caller = ? AND input_file_id = ? AND is_open",
            (caller, file_id),
        ).fetchone()
        return found is not None

    def update(self, batch: Batch, was: Status, due: float, clears: bool) -> bool:
        with transaction(self._sql):
            is_updated = self._update(batch, was, due)
            if is_updated and clears:
                self._clear(batch.id)
        return is_updated

    def start(self, batch: Batch, lines: Sequence[InputLine], due: float) -> bool:
        with transaction(self._sql):
            (open_lines,) = self._sql.execute(
                "SELECT total(total) FROM batches WHERE caller = ? AND is_open", (batch.caller,)
            ).fetchone()
            check_lines(self._quotas, int(open_lines), len(lines))
            if not self._update(batch, Status.VALIDATING, due):
                return False
            self._sql.execute("UPDATE batches SET total = ? WHERE id = ?", (len(lines), batch.id))
            self._sql.executemany(
                "INSERT INTO lines (batch, number, place, size, custom_id) VALUES (?, ?, ?, ?, ?)",
                ((batch.id, one.number, one.offset, one.size, one.custom_id) for one in lines),
            )
        return True

    def take(self, seconds: float) -> Batch | None:
        now = self._clock()
        if self._sql.execute("SELECT 1 FROM batches WHERE due <= ?", (now,)).fetchone() is None:
            return None  # most of the time, and without a lock
        with transaction(self._sql):
            row = self._sql.execute(
                "UPDATE batches SET due = ? WHERE id = (SELECT id FROM batches WHERE due <= ? "
                f"ORDER BY due LIMIT 1) RETURNING {RECORD}",
                (now + seconds, now),
            ).fetchone()
        return None if row is None else _batch(row)

    def hold(self, batch_id: str, seconds: float) -> None:
        with transaction(self._sql):
            self._sql.execute(
                "UPDATE batches SET due = ? WHERE id = ?", (self._clock() + seconds, batch_id)
            )

    def remove(self, batch_id: str) -> None:
        with transaction(self._sql):
            self._clear(batch_id)
            self._sql.execute("DELETE FROM batches WHERE id = ?", (batch_id,))

    def depth(self) -> Depth:
        row = self._sql.execute(
            "SELECT count(*), total(total - completed - failed) FROM batches WHERE is_open"
        ).fetchone()
        return Depth(int(row[0]), int(row[1]))

    def _check_batches(self, new: Batch) -> None:
        (count,) = self._sql.execute(
            "SELECT count(*) FROM batches WHERE caller = ? AND kind = ? AND is_open",
            (new.caller, new.kind),
        ).fetchone()
        check_batches(self._quotas, new.kind, count)

    def _update(self, batch: Batch, was: Status, due: float) -> bool:
        changed = self._sql.execute(
            "UPDATE batches SET record = ?, status = ?, is_open = ?, due = ? "
            "WHERE id = ? AND status = ?",
            (batch.to_json(), batch.status, batch.is_open, due, batch.id, was),
        ).rowcount
        return changed > 0

    def _clear(self, batch_id: str) -> None:
        self._sql.execute("DELETE FROM lines WHERE batch = ?", (batch_id,))
        self._sql.execute("DELETE FROM results WHERE batch = ?", (batch_id,))
        self._sql.execute("UPDATE batches SET result_bytes = 0 WHERE id = ?", (batch_id,))


def _batch(row: Sequence[Any]) -> Batch:
    record, *counts = row
    return Batch.from_json(record, Counts(*counts))
