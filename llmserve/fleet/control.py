"""How one worker of a box asks another: JSON lines over a Unix socket, one request per connection.

The answer is any number of lines; the connection's end is the answer's end. The run directory
belongs to the server's user alone, so whoever can connect is the server itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import orjson
from loguru import logger

from llmserve.timer import awake_timeout

Handler = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any]]]

MAX_LINE_BYTES: Final = 16 * 2**20
REQUEST_SECONDS: Final = 10.0


class ControlServer:
    """Answers commands with what `handle` yields, until closed."""

    def __init__(self, path: Path, handle: Handler) -> None:
        self._path = path
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen; a socket file that a dead process of the same id left is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, path=self._path, limit=MAX_LINE_BYTES
        )
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening and end what is being answered."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with awake_timeout(REQUEST_SECONDS):
                request = orjson.loads(await reader.readline())
            async with contextlib.aclosing(self._handle(request)) as answers:
                async for answer in answers:
                    writer.write(orjson.dumps(answer) + b"\n")
                    await writer.drain()
        except (TimeoutError, ConnectionError, orjson.JSONDecodeError) as error:
            logger.debug("control connection ended: {}", type(error).__name__)
        except asyncio.CancelledError:
            pass  # the server closes
        finally:
            self._tasks.discard(task)
            writer.close()


async def ask(path: Path, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Every line that a worker answers.

    Raises:
        ConnectionError: nobody listens there any more.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
    except OSError as error:
        raise ConnectionError(f"worker at {path.name} is gone") from error
    try:
        writer.write(orjson.dumps(request) + b"\n")
        await writer.drain()
        while line := await reader.readline():
            yield orjson.loads(line)
    finally:
        writer.close()
