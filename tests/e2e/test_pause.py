"""All processes of a server are stopped together, for longer than it waits for anything."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
from box import pids, wait_until
from hanging_model import make_hanging_model
from reader import Reader
from server import running_server

LIMIT_SECONDS = 8.0
PAUSE_SECONDS = 9.5


def test_nobody_dies_of_a_pause_and_streams_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "hanging"
    switch = make_hanging_model(folder)
    settings = {
        "workers": 2,
        "worker_timeout_seconds": LIMIT_SECONDS,
        "hang_timeout_seconds": LIMIT_SECONDS,
        "trust_remote_code": True,
    }
    with running_server(tmp_path, folder, **settings) as server:
        server.wait_for_log("is ready after", times=2)
        wait_until(lambda: len(pids(server)) == 2, "both workers serve")
        before = pids(server)
        switch.touch()
        reader = Reader(server, max_tokens=3, timeout=LIMIT_SECONDS)
        reader.start()
        # A step of the stream hangs when everybody is stopped, and goes on after the pause.
        running = "llmserve_num_requests_running"
        wait_until(lambda: server.metric(running) == 1, "the stream runs")
        everybody = [server.process.pid, *before.values()]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(PAUSE_SECONDS)
        for pid in everybody:  # the supervisor first: no worker has beaten yet
            os.kill(pid, signal.SIGCONT)
        server.wait_for_log("this process did not run for", times=3)
        switch.unlink()
        reader.join(60)
        assert reader.terminals == ["event: done"]
        assert '"finish_reason":"length"' in "".join(reader.lines)
        assert pids(server) == before
        assert httpx.get(server.url + "/health", timeout=10).status_code == 200
        assert "ERROR" not in server.log
        assert server.stop() == 0
