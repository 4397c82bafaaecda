"""The same application under the real Gunicorn."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from box import wait_until as until
from forked import popen
from programs import environment
from server import Server, free_port

CONFIGURATION = Path(__file__).parents[2] / "scripts" / "deploy" / "gunicorn.conf.py"
SECONDS = 90.0


@contextlib.contextmanager
def running_gunicorn(folder: Path, *arguments: str, **settings: object) -> Iterator[Server]:
    """Gunicorn on our configuration, in that folder, with its run directory below it."""
    port = free_port()
    env = environment(port=port, **settings) | {"XDG_STATE_HOME": str(folder / "state")}
    log = folder / "gunicorn.log"
    with log.open("wb") as sink:
        process = popen(
            [sys.executable, "-m", "gunicorn", "-c", str(CONFIGURATION), *arguments],
            cwd=folder,
            env=env,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        yield server
    except BaseException:
        print(server.log)
        raise
    finally:
        # The whole group: workers do not notice that their master was killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def workers_of(server: Server) -> dict[int, int]:
    """Process ids by worker number."""
    workers = httpx.get(server.url + "/admin/status", timeout=20).json()["workers"]
    return {worker["worker"]: worker["pid"] for worker in workers}


def is_refused(url: str) -> bool:
    # A worker that leaves may close a connection before it is read.
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, timeout=20).status_code == 401
    return False


def test_wrong_settings_end_it_with_a_word_about_them(tmp_path: Path) -> None:
    with running_gunicorn(tmp_path, workers="many") as server:
        assert server.process.wait(SECONDS) != 0
        assert "LLMSERVE_WORKERS" in server.log


def test_gunicorn_streams_counts_over_its_workers_and_drains(
    tiny_model: Path, tmp_path: Path
) -> None:
    with running_gunicorn(tmp_path, models=tiny_model, workers=2) as server:
        server.wait_until("/health/ready", 200)
        server.wait_for_log("is ready after", times=2)
        request = {"prompt": "hi", "max_tokens": 5, "stream": True, "ignore_eos": True}
        headers = {"Connection": "close"}
        for _ in range(8):
            answer = httpx.post(server.url + "/generate", json=request, headers=headers, timeout=30)
            assert answer.text.count("event: done") == 1
        assert server.metric("llmserve_request_success_total") == 8
        assert server.metric("llmserve_worker_up") == 2
        before = workers_of(server)
        assert sorted(before) == [0, 1]
        os.kill(before[0], signal.SIGKILL)
        server.wait_for_log("is ready after", times=3)
        until(lambda: server.metric("llmserve_worker_up") == 2, "two workers again")
        assert server.metric("llmserve_request_success_total") == 8, "the dead one's counts stay"
        assert server.stop(signal.SIGTERM) == 0
        assert list((tmp_path / "state" / "llmserve").iterdir()) == []
        assert "ERROR" not in server.log.rpartition("is ready after")[2]


def test_under_gunicorn_too_a_run_directory_that_vanishes_comes_back(
    tiny_model: Path, tmp_path: Path
) -> None:
    # So deep that no socket's address has room for it.
    run_dir = tmp_path / ("deep" * 20) / "run"
    run_dir.parent.mkdir()
    settings = {"models": "[]", "models_on_demand": tiny_model, "workers": 2, "run_dir": run_dir}
    with running_gunicorn(tmp_path, **settings) as server:
        server.wait_until("/health/ready", 200)
        until(lambda: sorted(workers_of(server)) == [0, 1], "both workers answer")
        before = workers_of(server)
        run_dir.rename(tmp_path / "gone")
        assert httpx.get(server.url + "/metrics", timeout=20).status_code == 200
        os.kill(before[0], signal.SIGKILL)
        until(
            lambda: workers_of(server).keys() == before.keys() and workers_of(server) != before,
            "the old worker and the new one know of each other",
        )
        assert workers_of(server)[1] == before[1]
        until(lambda: server.metric("llmserve_worker_up") == 2, "both are counted")
        assert "gunicorn.ctl is too long" in server.log
        assert "AF_UNIX" not in server.log
        assert server.stop(signal.SIGTERM) == 0


def test_sighup_reads_the_settings_again_and_a_given_run_directory_stays(
    tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "llmserve.toml"
    settings = f'models = []\nmodels_on_demand = ["{tiny_model}"]\n'
    file.write_text(settings)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    # More workers than the settings say: the workers must be told, or they find no slot.
    address = tmp_path / "address"
    with running_gunicorn(
        tmp_path, "--workers", "2", run_dir=run_dir, address_file=address
    ) as server:
        server.wait_until("/health/ready", 200)
        until(lambda: sorted(workers_of(server)) == [0, 1], "both workers answer")
        assert address.read_text().strip() == server.url
        models = server.url + "/v1/models"
        assert httpx.get(models).status_code == 200
        file.write_text(settings + 'api_keys = ["secret"]\n')
        server.process.send_signal(signal.SIGHUP)
        # Asked often enough to meet every worker; an old one still lets everybody in.
        until(lambda: all(is_refused(models) for _ in range(12)), "every worker wants a key")
        assert address.exists(), "it outlives a reload"
        assert server.stop(signal.SIGTERM) == 0
        assert (run_dir / "metrics").is_dir()
        assert not address.exists()


def test_the_worker_class_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn_worker", None)
    monkeypatch.delitem(sys.modules, "llmserve.workers.gunicorn_worker", raising=False)
    with pytest.raises(ImportError):
        __import__("llmserve.workers.gunicorn_worker")
