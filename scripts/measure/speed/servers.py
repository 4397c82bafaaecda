"""Servers to measure, started for it and stopped after it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure.speed.limits import Workload

START_SECONDS = 180
SCRIPTS = Path(sys.executable).parent


class NotStarted(Exception):
    """A server did not come up, or does not answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A kind of server. `ready_path` answers 200 once it can generate; `token_ids` are those below
    which prompts are drawn, where it takes any; `is_serial` where it answers one request after
    another."""

    name: str
    command: Sequence[str]
    ready_path: str
    endpoint: str
    model: str | None = None
    token_ids: int | None = None
    is_serial: bool = False


def llmserve(folder: Path, max_running: int, kv_cache_bytes: int, token_ids: int) -> Server:
    """Ours."""
    command = [
        str(SCRIPTS / "llmserve"), "serve", str(folder), "--port", "PORT",
        "--max-running", str(max_running), "--kv-cache-bytes", str(kv_cache_bytes),
    ]  # fmt: skip
    return Server("llmserve", command, "/health/ready", "completions", token_ids=token_ids)


def transformers(folder: Path, *, is_batching: bool) -> Server:
    """`transformers serve`, with and without continuous batching."""
    flags = ["--continuous-batching"] if is_batching else []
    command = [str(SCRIPTS / "transformers"), "serve", str(folder), *flags,
               "--host", "127.0.0.1", "--port", "PORT"]  # fmt: skip
    name = "transformers serve" + (" --continuous-batching" if is_batching else "")
    return Server(name, command, "/health", "chat", model=str(folder), is_serial=not is_batching)


@dataclass(frozen=True, slots=True)
class Running:
    """Where a server answers, and its first process."""

    url: str
    pid: int


@contextlib.contextmanager
def running(server: Server) -> Iterator[Running]:
    """Started, ready, and stopped at the end.

    Raises:
        NotStarted: it is not installed, or does not come up.
    """
    if not Path(server.command[0]).exists():
        raise NotStarted(f"{Path(server.command[0]).name} is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [part.replace("PORT", str(port)) for part in server.command]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        try:
            _await_ready(process, f"http://127.0.0.1:{port}", server, log)
            yield Running(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure(url: str, server: Server, work: Workload, seed: int) -> dict[str, Any]:
    """`llmserve bench` against it, all requests at once: its JSON report.

    Raises:
        NotStarted: not all requests were answered.
    """
    command = [
        str(SCRIPTS / "llmserve"), "bench", url, "--endpoint", server.endpoint,
        "--concurrency", str(work.concurrency), "--requests", str(work.concurrency),
        "--input-tokens", str(work.input_tokens), "--output-tokens", str(work.output_tokens),
        "--seed", str(seed), "--json", "-",
        *(["--model", server.model] if server.model else []),
        *(["--token-ids", str(server.token_ids)] if server.token_ids else []),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if not done.stdout.startswith("{"):
        raise NotStarted((done.stderr or done.stdout).strip()[-300:])
    report: dict[str, Any] = json.loads(done.stdout)
    if report["succeeded"] < report["requests"]:
        raise NotStarted(f"{work}: {report['errors']}")
    return report


def _await_ready(process: subprocess.Popen[bytes], url: str, server: Server, log: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url + server.ready_path, timeout=5)
            return
        time.sleep(0.2)
    log.seek(0)
    raise NotStarted(log.read().decode(errors="replace").strip()[-300:])
