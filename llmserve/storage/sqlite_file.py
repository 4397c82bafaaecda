"""A database file of SQLite that several processes use at once. It blocks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmserve.errors import ConfigurationError

BUSY_SECONDS: Final = 5.0
"""How long to wait for another process that writes."""
RETRY_SECONDS: Final = 0.02


def open_sqlite(
    path: Path, schema: str, setting: str, *, survives_power_loss: bool = False
) -> sqlite3.Connection:
    """The database in this file, which is made if it is not there, with a write-ahead log. What is
    committed survives the end of every process, and that of the machine if asked.

    Raises:
        ConfigurationError: it cannot be used; names the setting.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        sql = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _use_log(sql)
            sql.execute(f"PRAGMA synchronous = {'FULL' if survives_power_loss else 'NORMAL'}")
            sql.executescript(schema)
        except BaseException:
            sql.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(f"{setting}: {path} cannot be used: {error}") from error
    return sql


@contextlib.contextmanager
def transaction(sql: sqlite3.Connection) -> Iterator[None]:
    """All or nothing of what is written inside; others write before or after it."""
    sql.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        sql.execute("ROLLBACK")
        raise
    sql.execute("COMMIT")


def _use_log(sql: sqlite3.Connection) -> None:
    """SQLite does not wait for others where the mode changes: several workers start at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            sql.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return
