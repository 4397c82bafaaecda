"""Sends a command to all workers of the box: each carries it out and reports."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, Final

from loguru import logger

from llmserve.errors import WorkerGone, WorkerInvalid
from llmserve.fleet.control import ForeignPeer, ask
from llmserve.fleet.membership import Membership
from llmserve.operations.command import Command, Kind
from llmserve.operations.operations import WorkerReply
from llmserve.operations.reply import NotAReply, checked, failure
from llmserve.operations.worker_operations import WorkerOperations

LOOK_SECONDS: Final = 1.0
GONE: Final = "the worker stopped before it answered"


class FleetOperations:
    """Sends commands to every worker, this one included; without a membership only to this one."""

    def __init__(self, own: WorkerOperations, membership: Membership | None) -> None:
        self._own = own
        self._membership = membership

    async def run(self, command: Command) -> AsyncGenerator[WorkerReply]:
        """All workers' messages as they come, including one last message from each."""
        if self._membership is None:
            async for message in self._own.run(command):
                yield WorkerReply(0, message)
            return
        # This worker runs, so there is at least one, even if the board is empty.
        peers = dict(self._membership.peers()) or {self._membership.number: self._membership.socket}
        inbox: asyncio.Queue[WorkerReply] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._listen(number, path, command, inbox), name=f"ask-{number}")
            for number, path in peers.items()
        ]
        waiting = set(peers)
        try:
            while waiting:
                reply = await inbox.get()
                if reply.is_last:
                    waiting.discard(reply.worker)
                yield reply
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def collect(self, command: Command) -> list[WorkerReply]:
        """The last message of each worker, by number."""
        last = {reply.worker: reply async for reply in self.run(command)}
        return [last[number] for number in sorted(last)]

    async def _listen(
        self, number: int, path: Path, command: Command, inbox: asyncio.Queue[WorkerReply]
    ) -> None:
        """Put a worker's messages into the inbox, up to the last; if it fails, an error."""
        try:
            async with contextlib.aclosing(ask(path, command.to_wire())) as answers:
                reply: WorkerReply | None = None
                while reply is None or not reply.is_last:
                    answer = await self._next_while_alive(answers, number)
                    reply = WorkerReply(number, checked(answer, command.kind))
                    inbox.put_nowait(reply)
        except (ForeignPeer, NotAReply) as error:
            if command.kind is not Kind.STATUS:  # which is asked all the time
                logger.error("worker {} gave an invalid answer: {}", number, error)
            inbox.put_nowait(WorkerReply(number, failure(WorkerInvalid(str(error)))))
        except (StopAsyncIteration, ConnectionError, TimeoutError, ValueError):
            inbox.put_nowait(WorkerReply(number, failure(WorkerGone(GONE))))

    async def _next_while_alive(self, answers: AsyncIterator[Any], number: int) -> Any:
        """The next message, which may take minutes, as for a load, while the worker is alive.

        Raises:
            TimeoutError: the worker's heartbeat stopped.
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
