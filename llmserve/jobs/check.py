"""Whether batches can be kept, before any worker starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llmserve.jobs.contents import open_contents
from llmserve.jobs.redis.queue import check_redis
from llmserve.jobs.sqlite.queue import check_sqlite


def check_jobs(folder: Path, queue_url: str | None) -> None:
    """Check the folder and the queue.

    Raises:
        ConfigurationError: they cannot be used.
    """
    open_contents(folder)
    if queue_url is None:
        check_sqlite(folder)
    else:
        asyncio.run(check_redis(queue_url))
