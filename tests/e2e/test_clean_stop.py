"""A server that has lived longer than every start-up limit stops without looking like a crash."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from server import idle_server


def test_a_clean_stop_has_no_error_in_the_log(tiny_model: Path, tmp_path: Path) -> None:
    settings = tmp_path / "llmserve.toml"
    with idle_server(tmp_path, tiny_model, workers=2) as server:
        server.wait_for_log("accepts connections", times=2)
        # From now on every worker is older than it may be before it comes up. Both signals are
        # there when the supervisor goes on, so it reads the limit and starts no new worker.
        settings.write_text("worker_start_seconds = 0.01\n")
        os.kill(server.process.pid, signal.SIGSTOP)
        os.kill(server.process.pid, signal.SIGHUP)
        os.kill(server.process.pid, signal.SIGTERM)
        os.kill(server.process.pid, signal.SIGCONT)
        assert server.process.wait(60) == 0
        assert "rolling restart, worker by worker (2)" in server.log
        assert "ERROR" not in server.log
        assert "Fatal Python error" not in server.log
