"""An engine's own jobs: what they raise, and that they never outlive whoever waits."""

from __future__ import annotations

import asyncio

import pytest
from bounded import run

from llmserve.domain import (
    Cancelled,
    Failed,
    Finish,
    FinishReason,
    SamplingParams,
    Usage,
)
from llmserve.engines.private_job import private_job
from llmserve.engines.task import TokenTask
from llmserve.errors import GenerationFailed, ModelUnloaded

TASK = TokenTask(request_id="warm-up", prompt_ids=(1,), sampling=SamplingParams(), max_tokens=1)


def test_a_job_that_ends_well_raises_nothing() -> None:
    async def test() -> None:
        with private_job(TASK, "m") as job:
            job.mailbox.post(Finish(FinishReason.LENGTH, Usage(1, 1)))
        assert job.is_cancelled, "nobody reads it any more"

    run(test)


def test_its_failure_is_raised() -> None:
    async def test() -> None:
        with pytest.raises(GenerationFailed, match="broke"), private_job(TASK, "m") as job:
            job.mailbox.post(Failed(GenerationFailed("broke"), Usage()))

    run(test)


def test_a_cancelled_one_says_that_the_model_was_unloaded() -> None:
    async def test() -> None:
        with pytest.raises(ModelUnloaded, match="'m'"), private_job(TASK, "m") as job:
            job.mailbox.post(Cancelled(Usage()))

    run(test)


def test_who_leaves_meanwhile_cancels_it() -> None:
    async def test() -> None:
        jobs = []

        async def wait() -> None:
            with private_job(TASK, "m") as job:
                jobs.append(job)
                await asyncio.Event().wait()

        waiting = asyncio.create_task(wait())
        while not jobs:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert jobs[0].is_cancelled

    run(test)
