"""Operators' commands on Ray: to every replica of a model, or of all, by Ray's own broadcast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from operator import itemgetter
from typing import Any, Final

from loguru import logger
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from llmserve.errors import ModelNotFound, WorkerGone
from llmserve.operations.command import Command, Kind
from llmserve.operations.fleet_operations import GONE
from llmserve.operations.operations import WorkerReply
from llmserve.operations.reply import Reply, failure
from llmserve.workers.ray.deployments import Deployments

STATUS_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 3600.0
"""A load may download its model."""


class RayOperations:
    """Reaches the replicas of an application. There is no progress, only each replica's last
    message; replicas are numbered anew in each answer, and named in it."""

    def __init__(self, deployments: Deployments, application: str) -> None:
        self._deployments = deployments
        self._application = application

    async def run(self, command: Command) -> AsyncGenerator[WorkerReply]:
        """The last message of each replica."""
        try:
            targets = self._targets(command)
        except ModelNotFound as error:
            yield WorkerReply(0, failure(error))
            return
        answers = await asyncio.gather(*(self._ask(target, command) for target in targets))
        for number, reply in enumerate(reply for replies in answers for reply in replies):
            if "status" in reply:
                reply = reply | {"status": reply["status"] | {"worker": number}}
            yield WorkerReply(number, reply)

    async def collect(self, command: Command) -> list[WorkerReply]:
        """The same, in the order of their numbers."""
        return [reply async for reply in self.run(command)]

    def _targets(self, command: Command) -> tuple[str, ...]:
        if command.kind is Kind.STATUS:
            return self._deployments.names
        found = self._deployments.find(command.model)
        if found is None:
            raise ModelNotFound(
                f"no deployment serves {(command.model or '')[:100]!r}; on Ray a model is added "
                "by the setting `models` and `serve deploy`",
                param="model",
            )
        return (found,)

    async def _ask(self, deployment: str, command: Command) -> list[Reply]:
        handle = serve.get_deployment_handle(deployment, self._application)
        seconds = STATUS_SECONDS if command.kind is Kind.STATUS else COMMAND_SECONDS
        try:
            answers: list[Any] = await handle.broadcast("command", command.to_wire()).results_async(
                timeout_s=seconds, return_exceptions=True
            )
        except (RayError, RayServeException, TimeoutError) as error:
            logger.warning("deployment {} did not answer: {}", deployment, error)
            return [failure(WorkerGone(f"{deployment}: {GONE}"))]
        named = sorted((a for a in answers if isinstance(a, tuple)), key=itemgetter(0))
        silent = [failure(WorkerGone(GONE)) for a in answers if not isinstance(a, tuple)]
        return [_with_name(reply, name, deployment) for name, reply in named] + silent


def _with_name(reply: Reply, name: str, deployment: str) -> Reply:
    names = {"replica": name, "deployment": deployment}
    return reply | ({"status": reply["status"] | names} if "status" in reply else names)
