"""The same application under the real Gunicorn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from server import Server, free_port

ROOT = Path(__file__).parents[2]


def test_gunicorn_streams_counts_over_its_workers_and_drains(
    tiny_model: Path, tmp_path: Path
) -> None:
    port = free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LLMSERVE_", "PROMETHEUS_"))}
    settings = {
        "LLMSERVE_PORT": str(port),
        "LLMSERVE_WORKERS": "2",
        "LLMSERVE_MODELS": str(tiny_model),
    }
    log = tmp_path / "gunicorn.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "scripts/deploy/gunicorn.conf.py"],
            cwd=ROOT,
            env=clean | settings,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, port, log)
    try:
        server.wait_until("/health/ready", 200)
        server.wait_for_log("is ready after", times=2)
        request = {"prompt": "hi", "max_tokens": 5, "stream": True, "ignore_eos": True}
        headers = {"Connection": "close"}
        for _ in range(8):
            answer = httpx.post(server.url + "/generate", json=request, headers=headers, timeout=30)
            assert answer.text.count("event: done") == 1
        assert server.metric("llmserve_request_success_total") == 8
        assert server.metric("llmserve_worker_up") == 2
        workers = httpx.get(server.url + "/admin/status").json()["workers"]
        assert [worker["worker"] for worker in workers] == [0, 1]
        assert server.stop(signal.SIGTERM) == 0
    except BaseException:
        print(server.log)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_worker_class_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn_worker", None)
    monkeypatch.delitem(sys.modules, "llmserve.workers.gunicorn_worker", raising=False)
    with pytest.raises(ImportError):
        __import__("llmserve.workers.gunicorn_worker")
