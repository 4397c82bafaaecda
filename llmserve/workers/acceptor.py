"""Accepts connections on the one listening socket that all workers of a box share.

The kernel wakes every worker, and the first one to accept gets the connection: with long-lived
streams one worker would end up with most of them. So a worker that has more connections than
another waits for a moment and lets the other accept, and one whose models are still loading leaves
all connections to those that can serve. There is no process in between: when a worker dies, the
connections that were not accepted yet go to the others.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from loguru import logger

from llmserve.fleet.board import Board, Preference, Row

STEP_BACK_SECONDS: Final = 0.002
PATIENCE_SECONDS: Final = 0.05
"""If a less busy worker has not accepted a connection by then, it is stuck: accept it after all."""
FULL_SECONDS: Final = 0.05


class Connections(set[Any]):
    """The open connections; every change is written to the board at once."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self._row = row

    def add(self, connection: Any) -> None:
        """Add a connection."""
        super().add(connection)
        self._row.count_connections(len(self))

    def discard(self, connection: Any) -> None:
        """Remove a connection, if it is there."""
        super().discard(connection)
        self._row.count_connections(len(self))

    def remove(self, connection: Any) -> None:
        """Remove a connection, which must be there."""
        super().remove(connection)
        self._row.count_connections(len(self))


class Acceptor:
    """Takes the place of Uvicorn's `asyncio.Server`. Owned by the event loop."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        connections: Connections,
        board: Board,
        row: Row,
        max_connections: int,
    ) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._connections = connections
        self._board = board
        self._row = row
        self._max_connections = max_connections
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[None]] = set()
        self._stepped_back_at: float | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Accept no more; the socket stays open for the other workers."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listener.fileno())
            if self._pause is not None:
                self._pause.cancel()

    async def wait_closed(self) -> None:
        """Wait until connections that were just accepted have their protocol."""
        await asyncio.gather(*self._arriving, return_exceptions=True)

    @property
    def _open(self) -> int:
        return len(self._connections) + len(self._arriving)

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        if self._open >= self._max_connections:
            self._pause_for(FULL_SECONDS)
        elif self._steps_back():
            self._pause_for(STEP_BACK_SECONDS)
        else:
            self._stepped_back_at = None
            self._accept()

    def _steps_back(self) -> bool:
        preference = self._board.is_better_elsewhere(self._row.number, self._open)
        if preference is not Preference.RATHER_ELSEWHERE:
            return preference is Preference.ELSEWHERE
        now = time.monotonic()
        if self._stepped_back_at is None:
            self._stepped_back_at = now
        return now - self._stepped_back_at < PATIENCE_SECONDS

    def _pause_for(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(seconds, self._listen)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was faster, or the client has left
        except OSError as error:  # most likely there are no file descriptors left
            logger.error("cannot accept a connection: {}", error)
            self._pause_for(1.0)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._row.count_connections(self._open + 1)
        task = self._loop.create_task(self._adopt(connection), name="accept")
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError as error:
            connection.close()
            logger.debug("a connection failed while it was accepted: {}", error)
