"""llmserve on a Ray of its own, whose processes are gone at the end, whatever happened."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from programs import environment
from server import Server, free_port

HOST = Path(__file__).with_name("ray_host.py")
ADMIN_KEY = "boss"
START_SECONDS = 240.0
STOP_SECONDS = 90.0


class RayServer(Server):
    """The ingress of an application on Ray."""

    def admin(self, method: str, path: str, **options: Any) -> httpx.Response:
        """An operator's request."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=30, **options)

    def replicas(self) -> list[dict[str, Any]]:
        """What each replica says of itself."""
        workers: list[dict[str, Any]] = self.admin("GET", "/admin/status").json()["workers"]
        return workers

    def wait_for_replicas(self, count: int, seconds: float = START_SECONDS) -> list[dict[str, Any]]:
        """Wait until so many answer."""
        deadline = time.monotonic() + seconds
        while len(replicas := self.replicas()) != count:
            assert time.monotonic() < deadline, f"no {count} replicas: {replicas}\n{self.log}"
            time.sleep(0.2)
        return replicas

    def wait_until_idle(self, seconds: float = 60.0) -> None:
        """Wait until nothing runs or waits in any replica."""
        deadline = time.monotonic() + seconds
        while busy := [m for r in self.replicas() for m in r["models"]
                       if m["running"] or m["waiting"]]:  # fmt: skip
            assert time.monotonic() < deadline, f"still busy: {busy}"
            time.sleep(0.1)

    def leave(self) -> None:
        """Begin to stop, as `serve shutdown` does."""
        assert self.process.stdin is not None
        self.process.stdin.close()


@contextlib.contextmanager
def running_ray(
    tmp_path: Path, arguments: dict[str, object], **settings: object
) -> Iterator[RayServer]:
    """The application with these arguments and settings. Sockets of Ray need a short path."""
    port, log = free_port(), tmp_path / "ray.log"
    env = environment(admin_keys=ADMIN_KEY, **settings) | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else one is kept in the home directory
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, str(HOST), folder, str(port), json.dumps(arguments)]
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=sink, stderr=subprocess.STDOUT
            )
        server = RayServer(process, port, log)
        started: set[psutil.Process] = set()
        try:
            server.wait_for_log("the application runs", 1, START_SECONDS)
            started |= set(psutil.Process(process.pid).children(recursive=True))
            yield server
        finally:
            _end(server, process, started)


def _end(server: RayServer, process: subprocess.Popen[bytes], started: set[psutil.Process]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        started |= set(psutil.Process(process.pid).children(recursive=True))
    with contextlib.suppress(BrokenPipeError):
        server.leave()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(started, timeout=20)
    for straggler in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            straggler.kill()
    assert not left, f"Ray left {left} behind"
