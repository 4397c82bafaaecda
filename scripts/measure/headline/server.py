"""The servers under load: processes on loopback, started, asked for their CPU time, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psutil

from measure.headline.plan import Plan

SCRIPTS: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.1


class StartFailed(RuntimeError):
    """A server did not come up; the text has the end of its log."""


class Server:
    """A running server with all its workers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.port = port
        self._process = process
        self._log = log

    def wait_for_log(self, words: str, times: int) -> None:
        """Wait until it has said so often, once per worker, that it is ready.

        Raises:
            StartFailed: it died, or took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while (log := self._log.read_text(errors="replace")).count(words) < times:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StartFailed(f"the server did not say {times} × {words!r}:\n{log[-3000:]}")
            time.sleep(POLL_SECONDS)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        times = [process.cpu_times() for process in self._processes()]
        return float(sum(t.user + t.system for t in times))

    def memory_bytes(self) -> int:
        """Memory of all its processes; pages that they share count once (PSS)."""
        return sum(process.memory_full_info().pss for process in self._processes())

    def stop(self) -> None:
        """Ask once, then end the whole process group: requests may be running for a while."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _processes(self) -> list[psutil.Process]:
        root = psutil.Process(self._process.pid)
        return [root, *root.children(recursive=True)]


@contextlib.contextmanager
def running_ideal(folder: Path, seconds: float) -> Iterator[Server]:
    """The server that only waits."""
    port = free_port()
    with _running(
        folder, "ideal", port, "measure.headline.ideal", str(port), str(seconds)
    ) as server:
        server.wait_for_log("listening", 1)
        yield server


@contextlib.contextmanager
def running_llmserve(folder: Path, plan: Plan, models: Mapping[str, Path]) -> Iterator[Server]:
    """`llmserve serve`, once every worker has loaded every model."""
    port = free_port()
    settings = {
        "LLMSERVE_WORKERS": str(plan.llmserve_workers),
        "LLMSERVE_MAX_RUNNING": str(plan.max_running),
        "LLMSERVE_TORCH_THREADS": "1",
        "LLMSERVE_DEVICE": "cpu",
        "LLMSERVE_DTYPE": "float32",
    }
    arguments = ("llmserve", "serve", *map(str, models.values()), "--port", str(port))
    with _running(folder, "llmserve", port, *arguments, **settings) as server:
        server.wait_for_log("is ready after", plan.llmserve_workers * len(models))
        yield server


@contextlib.contextmanager
def running_flask(folder: Path, plan: Plan, models: Mapping[str, Path]) -> Iterator[Server]:
    """Gunicorn's synchronous workers over `flask_app`, once every worker was forked."""
    port = free_port()
    arguments = (
        *("gunicorn", "measure.headline.flask_app:create_app()", "--preload"),
        *("--worker-class", "sync", "--workers", str(plan.flask_workers)),
        *("--bind", f"127.0.0.1:{port}", "--timeout", "120", "--graceful-timeout", "1"),
        "--no-control-socket",
    )
    # The name is spelled out: importing flask_app would load torch into the client.
    folders = json.dumps({name: str(path) for name, path in models.items()})
    with _running(folder, "flask", port, *arguments, HEADLINE_FOLDERS=folders) as server:
        server.wait_for_log("Booting worker", plan.flask_workers)
        yield server


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Of every process here: this package can be imported, and nothing is taken from the owner."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LLMSERVE_", "GUNICORN"))}
    path = os.pathsep.join(filter(None, (str(SCRIPTS), inherited.get("PYTHONPATH"))))
    return inherited | {
        "PYTHONPATH": path,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **settings,
    }


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _running(
    folder: Path, name: str, port: int, module: str, *arguments: str, **settings: str
) -> Iterator[Server]:
    log = folder / f"{name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=environment(folder, **settings),
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        yield server
    finally:
        server.stop()
