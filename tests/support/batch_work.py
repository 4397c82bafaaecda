"""What works on batches, over a queue and routes of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from job_queues import batch, file
from manual_clock import ManualClock

from llmserve.jobs.answered import Answered
from llmserve.jobs.batch import Batch
from llmserve.jobs.bell import Bell
from llmserve.jobs.contents import Contents, open_contents, writing
from llmserve.jobs.keeper import Keeper, new_file_id
from llmserve.jobs.queue import JobQueue
from llmserve.jobs.rules import Rules
from llmserve.jobs.runner import Runner
from llmserve.jobs.webhook import Webhooks
from llmserve.observability.metrics import Metrics

RULES = Rules(
    lease_seconds=10.0,
    keep_seconds=100_000.0,
    max_window_seconds=86_400.0,
    max_lines=50,
    max_body_bytes=1000,
    max_upload_bytes=10_000,
    lines_at_once=3,
)
Route = Callable[[dict[str, Any]], Awaitable[Answered]]


def answered(status: int = 200, **headers: str) -> Answered:
    body = {"ok": True} if status == 200 else {"error": {"code": f"e{status}"}}
    return Answered(status, headers, json.dumps(body).encode())


def line(name: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}


class Work:
    """One worker. `asked` are the lines that its routes were asked, by their `custom_id`."""

    def __init__(
        self, queue: JobQueue, folder: Path, clock: ManualClock, rules: Rules = RULES
    ) -> None:
        self.queue = queue
        self.clock = clock
        self._rules = rules
        self.contents: Contents = open_contents(folder)
        self.called: list[httpx.Request] = []
        self.hook_status = 200
        transport = httpx.MockTransport(self._called)
        hooks = Webhooks(["https://hooks.example"], "secret", transport, clock)
        self.keeper = Keeper(queue, self.contents, rules, hooks, clock)
        self.metrics = Metrics()

    async def begun(self, *lines: Any, **fields: Any) -> Batch:
        """A batch of these lines, in the queue and validated."""
        input_id = new_file_id()
        text = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
        async with writing(self.contents, input_id) as content:
            content.write(text)
        await self.queue.put_file(file(id=input_id, expires_at=1e9).complete(len(text)))
        new = batch(input_file_id=input_id, created_at=self.clock.now, **fields)
        await self.queue.create(new, self.clock.now, None)
        assert await self.keeper.step()
        return await self.now(new)

    async def now(self, one: Batch) -> Batch:
        found = await self.queue.find(one.caller, one.id)
        assert found is not None
        return found

    async def steps(self) -> None:
        """All that is due."""
        while await self.keeper.step():
            pass

    def told(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a file."""
        assert file_id is not None
        text = self.contents.path(file_id).read_text()
        return [json.loads(one) for one in text.splitlines()]

    @asynccontextmanager
    async def running(
        self, route: Route, is_closing: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[Bell]:
        """A runner that asks this route."""

        async def run_line(url: str, body: bytes, *, caller: str, request_id: str) -> Answered:
            return await route(json.loads(body))

        bell = Bell()
        runner = Runner(self.queue, self.contents, self._rules, run_line, self.metrics, bell)
        async with AsyncExitStack() as stack:
            task = asyncio.create_task(runner.run(is_closing))

            async def stop() -> None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            stack.push_async_callback(stop)
            yield bell

    def _called(self, request: httpx.Request) -> httpx.Response:
        self.called.append(request)
        return httpx.Response(self.hook_status)
