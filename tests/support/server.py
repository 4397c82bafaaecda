"""A real server for end-to-end tests: `llmserve serve` in a process of its own, on loopback."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import httpx
from programs import environment, started

DEMO = Path(__file__).parents[2] / "models" / "demo"
DEMO_EMBEDDING = DEMO.with_name("demo-embedding")
START_SECONDS = 90.0
STOP_SECONDS = 40.0


class Server:
    """A running server. `log` holds everything that it printed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    @property
    def grpc_address(self) -> str:
        """Where it answers gRPC, as the log says: it takes a free port (`grpc_port = 0`)."""
        found = re.search(r"gRPC on ([\d.]+:\d+)", self.log)
        assert found is not None, self.log
        return found[1]

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until(self, path: str, status: int, seconds: float = START_SECONDS) -> httpx.Response:
        """Ask until that status comes; the server must live that long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server died:\n{self.log}"
            with contextlib.suppress(httpx.TransportError):
                response = httpx.get(self.url + path, timeout=5)
                if response.status_code == status:
                    return response
            time.sleep(0.1)
        raise AssertionError(f"{path} did not answer {status} within {seconds} s:\n{self.log}")

    def wait_for_log(self, words: str, times: int, seconds: float = START_SECONDS) -> None:
        """Wait until the log has these words so often: once per worker, say."""
        deadline = time.monotonic() + seconds
        while self.log.count(words) < times:
            assert time.monotonic() < deadline, f"no {times} × {words!r} in:\n{self.log}"
            time.sleep(0.02)

    def load(self, model: int = 0) -> tuple[int, int]:
        """Running and waiting, as the readiness probe tells."""
        body = httpx.get(self.url + "/health/ready", timeout=5).json()["models"][model]
        return body["running"], body["waiting"]

    def wait_for_load(self, running: int, waiting: int, seconds: float = 20.0) -> float:
        """Wait until exactly so many run and wait; returns the seconds it took."""
        begun = time.monotonic()
        while (load := self.load()) != (running, waiting):
            assert time.monotonic() - begun < seconds, f"running, waiting stay {load}"
            time.sleep(0.005)
        return time.monotonic() - begun

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a series' samples that carry these labels."""
        total = 0.0
        for line in httpx.get(self.url + "/metrics", timeout=10).text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(
                f'{key}="{label}"' in series for key, label in labels.items()
            ):
                total += float(value)
        return total

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Ask it to exit; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(STOP_SECONDS)


_given_ports: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, another one each time."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given_ports:
            _given_ports.add(port)
            return port


def idle_server(
    tmp_path: Path, model: str | Path, **settings: object
) -> contextlib.AbstractContextManager[Server]:
    """A server whose first request loads the model. Until then it costs a fifth of another."""
    return running_server(tmp_path, models="[]", models_on_demand=model, **settings)


@contextlib.contextmanager
def running_server(
    tmp_path: Path,
    *models: str | Path,
    wait: bool = True,
    state: Path | None = None,
    is_fork: bool = True,
    **settings: object,
) -> Iterator[Server]:
    """`llmserve serve` with these models and settings, stopped at the end. `state` is the folder
    of its run directory, by default one below `tmp_path`. One that is no fork, nor its workers,
    imports everything itself, which takes a core five seconds for each process."""
    port = free_port()
    env = environment(**settings) | {"XDG_STATE_HOME": str(state or tmp_path / "state")}
    log = tmp_path / "server.log"
    command = (sys.executable, "-m", "llmserve", "serve", *models, "--port", port)
    popen = forked.popen if is_fork else subprocess.Popen
    with started(
        command, log, cwd=tmp_path, env=env, stop_seconds=STOP_SECONDS, popen=popen
    ) as process:
        server = Server(process, port, log)
        if wait:
            server.wait_until("/health/ready", 200)
        yield server
