"""Runs lines in one worker: takes them, asks the server's own routes, keeps what they answer."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from functools import partial
from typing import Final

import orjson
from loguru import logger

from llmserve.errors import StoreFailed
from llmserve.jobs.answered import RunLine, failed, told
from llmserve.jobs.batch import CHAT_PREFIX
from llmserve.jobs.bell import Bell, rung
from llmserve.jobs.contents import Contents
from llmserve.jobs.line import HeldLine, LineKey, Result
from llmserve.jobs.queue import JobQueue
from llmserve.jobs.rules import Rules
from llmserve.observability.metrics import Metrics

IDLE_SECONDS: Final = 1.0
"""How often to look for lines that other workers' clients brought."""
STORE_SECONDS: Final = 0.5
"""Between two attempts to keep a result."""
KEEP_SECONDS: Final = 5.0
"""When the worker ends: for results that are on the way to the queue."""
MOST_WAIT_SECONDS: Final = 60.0
MOST_LOSSES: Final = 5
"""Workers that may end while they run a line: it might be the line that ends them."""
MOST_FAILURES: Final = 3
"""Attempts after which an error of ours that is not known to be temporary is final."""
SERVER_ERROR: Final = 500
NOT_IN_A_LINE: Final = ("stream", "background")


class Runner:
    """Owned by the event loop. The bell rings when a line has ended."""

    def __init__(
        self,
        queue: JobQueue,
        contents: Contents,
        rules: Rules,
        run_line: RunLine,
        metrics: Metrics,
        bell: Bell,
    ) -> None:
        self._owner = uuid.uuid4().hex
        self._queue = queue
        self._contents = contents
        self._rules = rules
        self._run_line = run_line
        self._metrics = metrics
        self._tasks: dict[LineKey, asyncio.Task[None]] = {}
        self._keeping: set[LineKey] = set()
        self._bell = bell

    async def run(self, is_closing: Callable[[], bool]) -> None:
        """Until it is cancelled. A worker that is closing takes nothing more, and gives back what
        it has."""
        holding = asyncio.create_task(self._hold(), name="hold lines")
        try:
            while True:
                event = self._bell.listen()
                try:
                    if is_closing():
                        await self._let_go()
                    else:
                        await self._take()
                except StoreFailed:
                    event = asyncio.Event()  # the log has it; not again before some time
                await rung(event, IDLE_SECONDS)
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            await asyncio.shield(self._leave())

    async def _take(self) -> None:
        while room := self._rules.lines_at_once - len(self._tasks):
            lines = await self._queue.take_lines(self._owner, room, self._rules.lease_seconds)
            if not lines:
                return
            for held in lines:
                task = asyncio.create_task(self._run(held), name=f"line {held.key}")
                self._tasks[held.key] = task
                task.add_done_callback(partial(self._ended, held.key))

    async def _hold(self) -> None:
        """Keep the leases; what this worker has no more, or nobody wants, is ended."""
        while True:
            await asyncio.sleep(self._rules.lease_seconds / 3)
            keys = list(self._tasks)
            if not keys:
                continue
            try:
                held = await self._queue.hold_lines(self._owner, keys, self._rules.lease_seconds)
            except StoreFailed:
                continue
            for key in keys:
                if key not in held and key not in self._keeping and key in self._tasks:
                    self._tasks[key].cancel()

    async def _let_go(self) -> None:
        """End what runs; another worker may begin it again at once."""
        tasks = {k: task for k, task in self._tasks.items() if k not in self._keeping}
        if not tasks:
            return
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        try:
            await self._queue.give_back(self._owner, list(tasks))
        except StoreFailed:
            logger.warning("{} lines of batches wait until their lease is over", len(tasks))

    async def _leave(self) -> None:
        await self._let_go()
        if self._tasks:  # their results are on the way to the queue
            await asyncio.wait(self._tasks.values(), timeout=KEEP_SECONDS)

    async def _run(self, held: HeldLine) -> None:
        outcome = await self._outcome(held)
        self._keeping.add(held.key)
        while True:
            try:
                await self._keep(held, outcome)
            except StoreFailed:
                await asyncio.sleep(STORE_SECONDS)
            else:
                return

    async def _keep(self, held: HeldLine, outcome: Result | float) -> None:
        if not isinstance(outcome, Result):
            await self._queue.put_off(self._owner, held.key, outcome)
            self._metrics.batch_lines.labels("put_off").inc()
        elif await self._queue.finish(held.key, outcome):
            word = "completed" if outcome.is_success else "failed"
            self._metrics.batch_lines.labels(word).inc()

    async def _outcome(self, held: HeldLine) -> Result | float:
        """What is told about the line, or in how many seconds to try again."""
        if held.losses > MOST_LOSSES:
            return failed(
                held.line,
                "worker_gone",
                f"{held.losses} workers ended while they ran this line; it is not tried again",
            )
        try:
            request = await asyncio.to_thread(self._read, held)
        except FileNotFoundError:
            return failed(held.line, "file_not_found", "the input file is gone")
        except OSError as error:
            logger.error("the input of a batch cannot be read: {}", error)
            return _backoff(held.attempts)
        if isinstance(request, Result):
            return request
        url, body = request
        answered = await self._run_line(
            url, body, caller=held.caller, request_id=_request_id(held.key)
        )
        if answered.is_temporary:
            return max(_backoff(held.attempts), answered.retry_after_seconds)
        if answered.status >= SERVER_ERROR and held.attempts < MOST_FAILURES:
            return _backoff(held.attempts)
        return told(held.line, answered)

    def _read(self, held: HeldLine) -> tuple[str, bytes] | Result:
        """The URL and the body, or what is wrong with them. Runs in a thread: a body may have
        megabytes."""
        line = held.line
        request = orjson.loads(self._contents.read(held.input_file_id, line.offset, line.size))
        for name in NOT_IN_A_LINE:
            if request["body"].get(name):
                return failed(
                    line, "invalid_request", f"`{name}: true` is not for lines; leave it out"
                )
        return request["url"], orjson.dumps(request["body"])

    def _ended(self, key: LineKey, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:  # it may have been taken again already
            del self._tasks[key]
            self._keeping.discard(key)
        self._bell.ring()
        if not task.cancelled() and task.exception() is not None:
            logger.opt(exception=task.exception()).error("line {} of a batch broke", key)


def _request_id(key: LineKey) -> str:
    """By which logs can be searched. The answer to a single request has the id of its batch."""
    if key.batch_id.startswith(CHAT_PREFIX):
        return key.batch_id.removeprefix(CHAT_PREFIX)
    return f"{key.batch_id}-{key.number}"


def _backoff(attempts: int) -> float:
    """Longer with each attempt; not the same for all that were refused at once."""
    return float(min(MOST_WAIT_SECONDS, 0.5 * 2 ** min(attempts, 10)) * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
