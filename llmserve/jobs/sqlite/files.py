"""Files in the database. It blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.queue import Page, Quotas
from llmserve.jobs.room import check_bytes
from llmserve.storage.sqlite_file import transaction


class FileTable:
    """Owned by the thread that made the connection."""

    def __init__(self, sql: sqlite3.Connection, quotas: Quotas, clock: Callable[[], float]) -> None:
        self._sql = sql
        self._quotas = quotas
        self._clock = clock

    def reserve(self, file: BatchFile) -> None:
        with transaction(self._sql):
            all_bytes, key_bytes = self._sql.execute(
                "SELECT total(charge), total(iif(caller = ?1, charge, 0)) FROM ("
                "SELECT caller, charge FROM files UNION ALL "
                "SELECT caller, result_bytes FROM batches WHERE result_bytes)",
                (file.caller,),
            ).fetchone()
            check_bytes(file, self._quotas, int(all_bytes), int(key_bytes))
            self._put(file)

    def put(self, file: BatchFile) -> None:
        with transaction(self._sql):
            self._put(file)

    def find(self, caller: str, file_id: str) -> BatchFile | None:
        row = self._sql.execute(
            "SELECT record FROM files WHERE id = ? AND caller = ? AND is_complete "
            "AND expires_at > ?",
            (file_id, caller, self._clock()),
        ).fetchone()
        return None if row is None else BatchFile.from_json(row[0])

    def listed(self, caller: str, purposes: Sequence[Purpose], page: Page) -> list[BatchFile]:
        is_less, order = (">", "ASC") if page.is_ascending else ("<", "DESC")
        rows = self._sql.execute(
            "SELECT record FROM files WHERE caller = ?1 AND is_complete AND expires_at > ?2 "
            f"AND purpose IN ({', '.join(repr(str(one)) for one in purposes)}) "
            f"AND (?3 IS NULL OR place {is_less} (SELECT place FROM files WHERE id = ?3)) "
            f"ORDER BY place {order} LIMIT ?4",
            (caller, self._clock(), page.after, page.limit + 1),
        )
        return [BatchFile.from_json(row[0]) for row in rows]

    def forget(self, file_id: str) -> bool:
        with transaction(self._sql):
            deleted = self._sql.execute("DELETE FROM files WHERE id = ?", (file_id,)).rowcount
        return deleted > 0

    def expired(self, limit: int) -> list[BatchFile]:
        rows = self._sql.execute(
            "SELECT record FROM files WHERE expires_at <= ? LIMIT ?", (self._clock(), limit)
        )
        return [BatchFile.from_json(row[0]) for row in rows]

    def _put(self, file: BatchFile) -> None:
        self._sql.execute(
            "INSERT INTO files VALUES (?1, (SELECT coalesce(max(place), 0) + 1 FROM files), ?2, "
            "?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET is_complete = ?4, charge = ?5, "
            "expires_at = ?6, record = ?7",
            (
                *(file.id, file.caller, file.purpose, file.is_complete, file.charge),
                *(file.expires_at, file.to_json()),
            ),
        )
