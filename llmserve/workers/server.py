"""A worker's Uvicorn server, with our way of accepting connections and of retiring."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from loguru import logger

from llmserve.bootstrap import Container
from llmserve.clock import awake_clock
from llmserve.fleet.board import State
from llmserve.observability.stages import Stages
from llmserve.settings import Settings
from llmserve.workers.acceptor import Acceptor, Connections
from llmserve.workers.signals import RETIRE_SIGNAL, STARTUP_FAILURE

POLL_SECONDS: Final = 0.05


class WorkerServer(uvicorn.Server):
    """Serves this process's application on the box's shared listening socket."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, settings: Settings, stages: Stages
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._stages = stages
        self._retirement: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and then accept connections."""
        assert sockets, "a worker is given its listening socket"
        self._stages.enter("event loop")
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        membership = self._container.membership
        assert membership is not None, "a worker has a run directory"
        connections = Connections(membership.row)
        self.server_state.connections = connections
        self._acceptor = Acceptor(
            sockets[0],
            self._make_protocol,
            connections,
            membership.board,
            membership.row,
            self._settings.max_connections,
        )
        self.servers = [self._acceptor]  # type: ignore[list-item]  # has what Uvicorn calls: close, wait_closed
        asyncio.get_running_loop().add_signal_handler(RETIRE_SIGNAL, self._begin_retirement)
        self.started = True
        logger.info("worker {} accepts connections {:.2f} s after its start: {}",
                    membership.number, self._stages.total_seconds, self._stages)  # fmt: skip

    @property
    def _container(self) -> Container:
        container = self._app.state.container
        assert isinstance(container, Container)
        return container

    def _make_protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        assert isinstance(made, asyncio.Protocol)
        return made

    def _begin_retirement(self) -> None:
        if self._retirement is None:
            logger.info("retiring: another worker takes over")
            self._retirement = asyncio.get_running_loop().create_task(
                self._retire(), name="retirement"
            )

    async def _retire(self) -> None:
        """Leave accepting to others, answer requests on open connections, exit when all are closed.

        While the service retires, every response closes its connection, so that clients with
        persistent connections move to another worker without ever being refused.
        """
        membership, service = self._container.membership, self._container.service
        assert membership is not None
        self._acceptor.close()
        membership.row.mark(State.LEAVING)
        service.begin_retirement()
        now = awake_clock()
        idle_until = now + self._settings.drain_timeout_seconds
        busy_until = now + self._settings.request_timeout_seconds
        while self.server_state.connections or service.has_open:  # gRPC has connections of its own
            now = awake_clock()
            if now > busy_until or (now > idle_until and not service.has_open):
                break
            await asyncio.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
