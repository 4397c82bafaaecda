"""A command for all workers of the box: each carries it out, each reports."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loguru import logger

from llmserve.errors import WorkerGone, WorkerInvalid
from llmserve.fleet.control import ForeignPeer, ask
from llmserve.fleet.membership import Membership
from llmserve.operations.command import Command, Kind
from llmserve.operations.reply import NotAReply, Reply, checked, failure
from llmserve.operations.worker_operations import WorkerOperations

LOOK_SECONDS: Final = 1.0
GONE: Final = "the worker went away before it answered"


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """One message of one worker."""

    worker: int
    message: Reply

    @property
    def is_last(self) -> bool:
        """Whether this worker has nothing more to say."""
        return self.message["event"] in ("done", "error")


class FleetOperations:
    """Sends commands to every worker, this one included; alone it is just this one."""

    def __init__(self, own: WorkerOperations, membership: Membership | None) -> None:
        self._own = own
        self._membership = membership

    async def run(self, command: Command) -> AsyncGenerator[WorkerReply]:
        """All workers' messages as they come; one last message from each."""
        if self._membership is None:
            async for message in self._own.run(command):
                yield WorkerReply(0, message)
            return
        # This worker serves, so there is at least one, whatever the board says.
        peers = dict(self._membership.peers()) or {self._membership.number: self._membership.socket}
        inbox: asyncio.Queue[WorkerReply] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._listen(number, path, command, inbox), name=f"ask-{number}")
            for number, path in peers.items()
        ]
        waiting = set(peers)
        try:
            while waiting:
                told = await inbox.get()
                if told.is_last:
                    waiting.discard(told.worker)
                yield told
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def collect(self, command: Command) -> list[WorkerReply]:
        """The last message of each worker, by number."""
        last = {told.worker: told async for told in self.run(command)}
        return [last[number] for number in sorted(last)]

    async def _listen(
        self, number: int, path: Path, command: Command, inbox: asyncio.Queue[WorkerReply]
    ) -> None:
        """Put a worker's messages into the inbox, up to the last one; ours where it has none."""
        try:
            async with contextlib.aclosing(ask(path, command.to_wire())) as answers:
                told: WorkerReply | None = None
                while told is None or not told.is_last:
                    answer = await self._next_while_alive(answers, number)
                    told = WorkerReply(number, checked(answer, command.kind))
                    inbox.put_nowait(told)
        except (ForeignPeer, NotAReply) as error:
            if command.kind is not Kind.STATUS:  # which is asked all the time, and told as silent
                logger.error("worker {} is not understood: {}", number, error)
            inbox.put_nowait(WorkerReply(number, failure(WorkerInvalid(str(error)))))
        except (StopAsyncIteration, ConnectionError, TimeoutError, ValueError):
            inbox.put_nowait(WorkerReply(number, failure(WorkerGone(GONE))))

    async def _next_while_alive(self, answers: AsyncIterator[Any], number: int) -> Any:
        """The next message; a load may take minutes, but a worker without a heartbeat is gone.

        Raises:
            TimeoutError: the worker's heart stopped.
        """
        assert self._membership is not None
        pending = asyncio.ensure_future(anext(answers))
        try:
            while not pending.done():
                await asyncio.wait({pending}, timeout=LOOK_SECONDS)
                if not pending.done() and not self._membership.board.is_alive(number):
                    raise TimeoutError
            return pending.result()
        finally:
            pending.cancel()
            await asyncio.wait({pending})  # `answers` cannot be closed while it runs
