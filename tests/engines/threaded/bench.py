"""A threaded engine on the tiny model, and a barrier for its forward passes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    LoadProgress,
    ModelSpec,
    SamplingParams,
)
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.task import TokenTask
from llmserve.engines.threaded.engine import ThreadedEngine

PROMPT = tuple(range(300, 312))
GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)


class Bench:
    """A loaded engine and the jobs that a test gives it."""

    def __init__(self, engine: ThreadedEngine) -> None:
        self.engine = engine

    @property
    def model(self) -> Any:
        return self.engine._model.model

    def start(
        self,
        sampling: SamplingParams = GREEDY,
        max_tokens: int = 12,
        *,
        is_cancelled: bool = False,
        **fields: Any,
    ) -> tuple[Job, Callable[[], Coroutine[Any, Any, list[Event]]]]:
        """A started job, and a coroutine function that reads it until its slot is free."""
        mailbox = Mailbox(asyncio.get_running_loop())
        done = asyncio.Event()
        task = TokenTask(
            **{"request_id": "r", "prompt_ids": PROMPT, **fields},
            sampling=sampling,
            max_tokens=max_tokens,
        )
        job = Job(task, mailbox, on_done=done.set)
        if is_cancelled:
            job.cancel()
        self.engine.start(job)

        async def events() -> list[Event]:
            received = [await mailbox.next()]
            while not isinstance(received[-1], Finish | Failed | Cancelled):
                received.append(await mailbox.next())
            await done.wait()
            return received

        return job, events

    async def tokens(self, sampling: SamplingParams = GREEDY, **fields: Any) -> tuple[int, ...]:
        _, events = self.start(sampling, **fields)
        return tokens_of(await events())


async def first_delta(job: Job) -> None:
    """Wait until the job has made a token."""
    while not isinstance(await job.mailbox.next(), Delta):
        pass


def tokens_of(events: list[Event]) -> tuple[int, ...]:
    return tuple(i for event in events if isinstance(event, Delta) for i in event.token_ids)


class Barrier:
    """Holds up the forward passes of some threads, so that a test sees what is in the middle."""

    def __init__(self, b: Bench, monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_open = threading.Event()
        self._threads = threads
        self._plain = b.model.forward
        self.reached = asyncio.Event()
        self.num_passes = 0
        monkeypatch.setattr(b.model, "forward", self._forward)

    def open(self) -> None:
        self._is_open.set()

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name.startswith(self._threads):
            self.num_passes += 1
            self._loop.call_soon_threadsafe(self.reached.set)
            assert self._is_open.wait(20)
        return self._plain(*args, **kwargs)


WARMER = "generate-warm-tiny"
POOL = "generate-tiny"


@contextlib.asynccontextmanager
async def bench(folder: Path, max_running: int = 2, **options: Any) -> AsyncIterator[Bench]:
    wanted: dict[str, Any] = {"max_running": max_running, "torch_threads": 1}
    engine = ThreadedEngine(
        ModelSpec("tiny", path=folder),
        EngineOptions(lambda spec, on_progress: folder, **wanted | options),
        why="test",
    )
    stages: list[LoadProgress] = []
    try:
        await engine.load(stages.append)
        assert [s.stage for s in stages][-1] == "warm-up"
        assert engine.stats().running == 0
        yield Bench(engine)
        assert engine.stats().running == 0
    finally:
        await engine.close()
