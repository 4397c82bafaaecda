"""How one worker of a box asks another: JSON lines over a Unix socket, one request per connection.

An answer is any number of lines and ends with the connection. The run directory belongs to the
server's user alone, and each end checks that the other belongs to this user before it sends
anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final

import orjson
from loguru import logger

from llmserve.fleet.socket_address import address_of
from llmserve.timer import awake_timeout
from llmserve.trouble import Trouble

Handler = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any]]]

MAX_LINE_BYTES: Final = 16 * 2**20
REQUEST_SECONDS: Final = 10.0
CREDENTIALS: Final = struct.Struct("iII")
"""`struct ucred` of Linux: process, user, group."""


class ForeignPeer(ConnectionError):
    """The other end of a control socket is another user's process."""

    def __init__(self, user: int) -> None:
        super().__init__(f"another user's process (user {user}) is at its control socket")


class ControlServer:
    """Answers each command with the lines that `handle` yields, until closed."""

    def __init__(self, path: Path, handle: Handler) -> None:
        self._path = path
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._seen: os.stat_result | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._trouble = Trouble(
            f"commands cannot be taken at {path.resolve()}",
            "this worker goes on serving, but `llmserve ps` and other commands do not reach it",
        )

    async def keep(self) -> None:
        """Listen, or listen again if the socket was removed.

        A failure is logged, and may be tried again. A socket that a dead process with the same id
        left behind is replaced.
        """
        if self._is_found:
            return
        self._stop()
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, sock=self._listen(), limit=MAX_LINE_BYTES
            )
        except OSError as error:
            self._trouble.begins(error)
        else:
            self._trouble.is_over()

    async def close(self) -> None:
        """Stop listening, and cancel the commands that are being answered."""
        self._stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            self._path.unlink()

    @property
    def _is_found(self) -> bool:
        """Whether the path leads to our socket."""
        try:
            return self._seen is not None and os.path.samestat(self._path.lstat(), self._seen)
        except OSError:
            return False

    def _listen(self) -> socket.socket:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            with address_of(self._path) as address:
                listener.bind(address)
            self._path.chmod(0o600)
            self._seen = self._path.lstat()
        except OSError:
            listener.close()
            raise
        return listener

    def _stop(self) -> None:
        """Take no more connections; open ones continue."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            _check_peer(writer.get_extra_info("socket"))
            async with awake_timeout(REQUEST_SECONDS):
                request = orjson.loads(await reader.readline())
            async with contextlib.aclosing(self._handle(request)) as answers:
                async for answer in answers:
                    writer.write(orjson.dumps(answer) + b"\n")
                    await writer.drain()
        except ForeignPeer as error:
            logger.warning("a command was refused: {}", error)
        except (OSError, ValueError) as error:  # disconnected, too late, too long, not JSON
            logger.debug("control connection ended: {}", type(error).__name__)
        except asyncio.CancelledError:
            pass  # the server is closing
        finally:
            self._tasks.discard(task)
            writer.close()


async def ask(path: Path, request: dict[str, Any]) -> AsyncGenerator[Any]:
    """Every line of a worker's answer, parsed as JSON and not checked further.

    Raises:
        ConnectionError: no process listens there any more, or a `ForeignPeer` does, which is not
            sent the request.
        ValueError: a line is not JSON, or longer than `MAX_LINE_BYTES`.
    """
    try:
        with address_of(path) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=MAX_LINE_BYTES)
    except OSError as error:
        raise ConnectionError(f"worker at {path.name} is gone") from error
    try:
        _check_peer(writer.get_extra_info("socket"))
        writer.write(orjson.dumps(request) + b"\n")
        await writer.drain()
        while line := await reader.readline():
            yield orjson.loads(line)
    finally:
        writer.close()


def _check_peer(connected: socket.socket) -> None:
    """Check that the peer runs under our user (for a listener: the process that began to listen).

    Raises:
        ForeignPeer: it is another user's.
    """
    if not hasattr(socket, "SO_PEERCRED"):  # not Linux: the directory's mode must suffice
        return
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(found)
    if user != os.geteuid():
        raise ForeignPeer(user)
