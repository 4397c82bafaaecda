"""Jobs that no request asked for: an engine's own, for warm-up and for pinning prefixes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from llmserve.domain import Cancelled, Failed
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import Task
from llmserve.errors import ModelUnloaded


@contextlib.contextmanager
def private_job(
    task: Task, model: str, on_done: Callable[[], None] = lambda: None
) -> Iterator[Job]:
    """A job to run inside the context. It is cancelled on the way out if it still runs, because its
    caller may have been cancelled.

    Raises:
        LLMServeError: the job failed.
        ModelUnloaded: it was cancelled.
    """
    mailbox = Mailbox(asyncio.get_running_loop())
    job = Job(task, mailbox, on_done=on_done)
    try:
        yield job
    finally:
        job.cancel()
    if isinstance(mailbox.terminal, Failed):
        raise mailbox.terminal.error
    if isinstance(mailbox.terminal, Cancelled):
        raise unloaded(model)


def unloaded(model: str) -> ModelUnloaded:
    """What becomes of work on a model that an operator unloads."""
    return ModelUnloaded(f"model {model!r} was unloaded meanwhile")
