"""The tables."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,
    place INTEGER NOT NULL,
    caller TEXT NOT NULL,
    purpose TEXT NOT NULL,
    is_complete INTEGER NOT NULL,
    charge INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    record BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_of ON files (caller, place);
CREATE INDEX IF NOT EXISTS files_by_expiry ON files (expires_at);

CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY,
    place INTEGER NOT NULL,
    caller TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    input_file_id TEXT NOT NULL,
    due REAL NOT NULL,
    served REAL NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    result_bytes INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT,
    digest TEXT,
    record BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batches_of ON batches (caller, place);
CREATE INDEX IF NOT EXISTS batches_by_due ON batches (due);
CREATE INDEX IF NOT EXISTS batches_open ON batches (served) WHERE is_open;
CREATE UNIQUE INDEX IF NOT EXISTS batches_by_idempotency ON batches (caller, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE IF NOT EXISTS lines (
    batch TEXT NOT NULL,
    number INTEGER NOT NULL,
    place INTEGER NOT NULL,
    size INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    due REAL NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    taken INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lines_by_due ON lines (batch, due, number);

CREATE TABLE IF NOT EXISTS results (
    batch TEXT NOT NULL,
    number INTEGER NOT NULL,
    is_success INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (batch, number)
) WITHOUT ROWID;
"""
"""A `place` orders files and batches by their creation, and a line by its offset in the input. A
line is deleted in the transaction that adds its result."""
