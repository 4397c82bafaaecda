"""The batches of this server, for routes; or how its operator turns them on."""

from __future__ import annotations

from llmserve.api.validation import MAX_SHOWN
from llmserve.bootstrap import Container
from llmserve.domain import Caller
from llmserve.errors import BatchNotFound, FileNotThere, InvalidRequest
from llmserve.jobs.batch import Batch, Kind
from llmserve.jobs.batch_file import BatchFile, Purpose
from llmserve.jobs.jobs import Jobs


def jobs_of(container: Container, what: str, param: str | None = None) -> Jobs:
    """Raises: InvalidRequest: there are none."""
    if container.jobs is None:
        raise InvalidRequest(
            f"{what} needs stored files, and this server stores none; its operator turns that on "
            "with the setting `jobs_dir`",
            param=param,
        )
    return container.jobs


async def file_of(jobs: Jobs, caller: Caller, file_id: str) -> BatchFile:
    """The caller's file.

    Raises:
        FileNotThere: there is none of that id.
    """
    file = await jobs.queue.find_file(caller.name, file_id)
    if file is None or file.purpose is Purpose.REQUEST:
        raise FileNotThere(
            f"there is no file {file_id[:MAX_SHOWN]!r} of this key: it was deleted, or has expired",
            param="file_id",
        )
    return file


async def batch_of(jobs: Jobs, caller: Caller, batch_id: str, kind: Kind) -> Batch:
    """The caller's batch, or request in the background.

    Raises:
        BatchNotFound: there is none of that id.
    """
    batch = await jobs.queue.find(caller.name, batch_id)
    if batch is None or batch.kind is not kind:
        what = "batch" if kind is Kind.BATCH else "chat completion in the background"
        raise BatchNotFound(f"there is no {what} {batch_id[:MAX_SHOWN]!r} of this key", param="id")
    return batch
