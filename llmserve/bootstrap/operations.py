"""What operators' commands meet in this worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from llmserve.bootstrap.background import run_in_background
from llmserve.fleet.control import ControlServer
from llmserve.fleet.membership import Membership
from llmserve.fleet.upkeep import Upkeep
from llmserve.operations.command import Command
from llmserve.operations.worker_operations import WorkerOperations


async def take_commands(
    own: WorkerOperations,
    membership: Membership | None,
    upkeep: Upkeep | None,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Answer on this worker's control socket, which `upkeep` keeps in its place; a process that is
    alone has none."""
    if membership is None or upkeep is None:
        return

    async def answer(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        async for message in own.run(Command.from_wire(request)):
            yield message

    control = ControlServer(membership.socket, answer)
    await control.keep()
    stack.push_async_callback(control.close)
    await run_in_background(upkeep.run(control), "upkeep", stack)
