"""The queue of batches, and who works on it."""

from __future__ import annotations

import contextlib

from llmserve.jobs.bell import Bell
from llmserve.jobs.contents import open_contents
from llmserve.jobs.jobs import Jobs
from llmserve.jobs.keeper import Keeper
from llmserve.jobs.queue import JobQueue, Quotas
from llmserve.jobs.redis.queue import open_redis_queue
from llmserve.jobs.rules import Rules
from llmserve.jobs.sqlite.queue import open_sqlite_queue
from llmserve.jobs.webhook import Webhooks
from llmserve.settings import Settings


async def open_jobs(settings: Settings, stack: contextlib.AsyncExitStack) -> Jobs | None:
    """Open until the stack is closed; `None` where there are none.

    Raises:
        ConfigurationError: the folder or the queue cannot be used, or an extra is missing.
    """
    if settings.jobs_dir is None:
        return None
    contents = open_contents(settings.jobs_dir)
    queue = await stack.enter_async_context(_queue(settings))
    rules = Rules(
        lease_seconds=settings.jobs_lease_seconds,
        keep_seconds=settings.jobs_keep_seconds,
        max_window_seconds=settings.batch_max_window_seconds,
        max_lines=settings.batch_max_lines,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        lines_at_once=settings.jobs_lines_at_once,
    )
    secret = settings.webhook_secret
    webhooks = Webhooks(settings.webhook_urls, "" if secret is None else secret.get_secret_value())
    keeper = Keeper(queue, contents, rules, webhooks)
    return Jobs(queue, contents, rules, webhooks, keeper, Bell())


def _queue(settings: Settings) -> contextlib.AbstractAsyncContextManager[JobQueue]:
    quotas = Quotas(
        total_bytes=settings.jobs_max_bytes,
        key_bytes=settings.jobs_key_max_bytes,
        key_batches=settings.jobs_key_max_batches,
        key_requests=settings.jobs_key_max_requests,
        key_lines=settings.jobs_key_max_lines,
    )
    assert settings.jobs_dir is not None
    if settings.queue_url is not None:
        return open_redis_queue(settings.queue_url.get_secret_value(), quotas)
    return open_sqlite_queue(settings.jobs_dir, quotas)
