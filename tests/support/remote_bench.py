"""A RemoteEngine over upstreams of a test, and what becomes of requests to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fake_upstream import FakeUpstream, listening

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    Conversation,
    Delta,
    EngineKind,
    Event,
    GenerationRequest,
    Message,
    ModelSpec,
    RemoteSpec,
    SamplingFields,
    Terminal,
)
from llmserve.engines.attempt_report import AttemptReport
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.remote.engine import RemoteEngine

CHAT = Conversation((Message("user", "Tell me a story about a fox, if you please."),))


def asking(prompt: Any = CHAT, **fields: Any) -> GenerationRequest:
    return GenerationRequest("r1", prompt, **fields)


class Asked:
    """A request on its way."""

    def __init__(self, engine: RemoteEngine, job: Job, done: asyncio.Event) -> None:
        self.job = job
        self.events: list[Event] = []
        self._done = done

    async def until(self, holds: Callable[[Event], bool]) -> Event:
        """Read events up to the first for which that holds."""
        while True:
            event = await self.job.mailbox.next()
            self.events.append(event)
            if holds(event):
                return event

    async def end(self) -> Terminal:
        """Read to the end; the engine has then let go of it."""
        last = await self.until(lambda event: isinstance(event, Terminal))
        await self._done.wait()
        assert isinstance(last, Terminal)
        assert not self.job.mailbox._events, "nothing comes after the end"
        return last

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))


class Bench:
    """An engine, its upstreams, and what it reported."""

    def __init__(self, engine: RemoteEngine, reports: list[AttemptReport]) -> None:
        self.engine = engine
        self.reports = reports

    @property
    def outcomes(self) -> list[str]:
        return [report.outcome.value for report in self.reports]

    @property
    def states(self) -> list[str]:
        return [upstream.state.value for upstream in self.engine.info.upstreams]

    async def ask(self, request: GenerationRequest | None = None) -> Asked:
        """Start a request."""
        deadline = awake_clock() + 60
        [task] = await self.engine.prepare(
            [request or asking()], Caller("me"), deadline, lambda: lambda: None
        )
        done = asyncio.Event()
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
        self.engine.start(job)
        return Asked(self.engine, job, done)

    async def look(self) -> None:
        """A health check of all upstreams, now."""
        await self.engine._known.look()


def spec(
    *urls: str,
    sampling: SamplingFields | None = None,
    max_context: int | None = None,
    **fields: Any,
) -> ModelSpec:
    remote = RemoteSpec(
        urls, **{"model": "m", "health_seconds": 3600.0, "connect_seconds": 2.0} | fields
    )
    return ModelSpec(
        "far",
        engine=EngineKind.REMOTE,
        device="remote",
        remote=remote,
        max_context=max_context,
        sampling=sampling or SamplingFields(),
    )


@contextlib.asynccontextmanager
async def bench(
    *upstreams: FakeUpstream,
    clock: Callable[[], float] = awake_clock,
    sampling: SamplingFields | None = None,
    **remote: Any,
) -> AsyncIterator[Bench]:
    """Loaded. At the end nothing runs in it."""
    reports: list[AttemptReport] = []
    options = EngineOptions(
        fetch=lambda model, on_progress: Path(),
        on_attempt=lambda model, report: reports.append(report),
    )
    async with listening(*upstreams):
        model = spec(*(upstream.url for upstream in upstreams), sampling=sampling, **remote)
        engine = RemoteEngine(model, options, clock)
        try:
            await engine.load(lambda progress: None)
            yield Bench(engine, reports)
            assert engine.stats().running == 0
        finally:
            await engine.close()
            await engine.close()
