"""Batches, files and requests in the background."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from llmserve.settings.kinds import RedisUrl, Seconds, Secret, Words


class JobsSettings(BaseModel):
    """Batches, files and requests in the background."""

    jobs_dir: Path | None = Field(
        None,
        description="Folder that keeps files and batches for `/v1/files`, `/v1/batches` and "
        "`background` of chats; all workers share it. Not set: there are none.",
    )
    queue_url: RedisUrl | None = Field(
        None,
        description="`redis://HOST:PORT/0` keeps the queue, for several boxes that share "
        "`jobs_dir` on a network file system; needs the extra `redis`. Not set: SQLite in "
        "`jobs_dir`.",
    )
    jobs_lines_at_once: int = Field(
        8, ge=1, le=1024, description="Lines of batches that a worker runs at a time."
    )
    jobs_lease_seconds: Seconds = Field(
        15.0,
        ge=0.5,
        description="A worker that gives no sign of life for so long loses its lines to others.",
    )
    jobs_keep_seconds: Seconds = Field(
        30 * 86_400.0, ge=3600, description="How long files, and batches that ended, are kept."
    )
    jobs_max_bytes: int = Field(
        20 * 2**30, ge=2**20, description="Bytes of all files and answers; more uploads are 429."
    )
    jobs_key_max_bytes: int = Field(2 * 2**30, ge=2**20, description="The same, of one key.")
    jobs_key_max_batches: int = Field(20, ge=1, description="Open batches of one key.")
    jobs_key_max_requests: int = Field(
        1000, ge=1, description="Open requests in the background of one key."
    )
    jobs_key_max_lines: int = Field(
        200_000, ge=1, description="Lines of the open batches of one key."
    )
    batch_max_lines: int = Field(50_000, ge=1, description="Lines of one batch.")
    batch_max_window_seconds: Seconds = Field(
        86_400.0, ge=60, description="The longest `completion_window` that a batch may have."
    )
    max_upload_bytes: int = Field(
        200 * 2**20, ge=1024, description="Largest file; it is written to disk as it comes."
    )
    upload_timeout_seconds: Seconds = Field(
        600.0, gt=0, description="How long a client may take to send a file."
    )
    webhook_urls: Words = Field(
        (),
        description="Beginnings of URLs that clients may name as `webhook_url`: this server calls "
        "them when a batch or a request in the background ended.",
    )
    webhook_secret: Secret | None = Field(
        None, description="What calls are signed with: `whsec_…`, or any text."
    )
