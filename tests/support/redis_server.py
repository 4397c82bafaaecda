"""A Redis of a test's own, which may be killed and started again."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from needs import needs
from server import free_port

START_SECONDS = 20.0


class RedisServer:
    """Keeps what it is told; at once if `fsync` is "always", as batches want it."""

    def __init__(self, folder: Path, fsync: str) -> None:
        self._folder = folder
        self._fsync = fsync
        self._program = needs("redis-server")
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._program, "--port", str(self._port), "--bind", "127.0.0.1"),
                    *("--dir", str(self._folder), "--save", ""),
                    *("--appendonly", "yes", "--appendfsync", self._fsync),
                ],
                stdout=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """As by `kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def flush(self) -> None:
        """Forget everything."""
        assert self._said("FLUSHALL").startswith(b"+OK")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self._said("PING").startswith(b"+PONG")
        return False

    def _said(self, command: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(100)


@contextlib.contextmanager
def running_redis(folder: Path, fsync: str = "always") -> Iterator[RedisServer]:
    """Started, and killed at the end."""
    folder.mkdir(exist_ok=True)
    redis = RedisServer(folder, fsync)
    redis.start()
    try:
        yield redis
    finally:
        redis.kill()
