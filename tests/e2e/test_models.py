"""Models come and go on all workers of a running server."""

from __future__ import annotations

import os
import signal
import time

import httpx
import pytest
from programs import llmserve
from server import Server


@pytest.fixture
def server(pair: Server) -> Server:
    """Two workers that serve `first`; `second` is loaded by the first request for it."""
    return pair


def ask(server: Server, model: str) -> httpx.Response:
    body = {"prompt": "hi", "max_tokens": 1, "model": model}
    return httpx.post(server.url + "/generate", json=body, timeout=60)


def workers(server: Server) -> list[dict[str, object]]:
    return list(httpx.get(server.url + "/admin/status", timeout=20).json()["workers"])


def statuses(server: Server, model: str) -> list[str]:
    return [
        found["status"]
        for worker in workers(server)
        for found in worker["models"]  # type: ignore[attr-defined]
        if found["name"] == model
    ]


def test_what_cannot_be_done_is_told_per_worker_with_exit_code_1(server: Server) -> None:
    ran = llmserve("load", "nobody", "--url", server.url)
    assert ran.returncode == 1
    assert ran.stderr.count("there is no model 'nobody'") == 2
    ran = llmserve("ps", "--url", "http://127.0.0.1:1")
    assert (ran.returncode, ran.stdout) == (1, "")


def test_the_first_request_loads_a_model_on_demand(server: Server) -> None:
    assert statuses(server, "second") == ["unloaded", "unloaded"]
    assert httpx.get(server.url + "/health/ready").status_code == 200
    assert ask(server, "second").status_code == 200
    assert "ready" in statuses(server, "second")


def test_a_model_is_loaded_on_every_worker_and_on_those_that_come_later(server: Server) -> None:
    assert ask(server, "third").status_code == 404
    ran = llmserve("load", "third", "--url", server.url)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("load third in") == 2
    assert statuses(server, "third") == ["ready", "ready"]
    assert "third" in llmserve("ps", "--url", server.url).stdout
    victim = int(workers(server)[0]["pid"])  # type: ignore[call-overload]
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while statuses(server, "third") != ["ready", "ready"] or any(
        worker["pid"] == victim for worker in workers(server)
    ):
        assert time.monotonic() < deadline, workers(server)
    assert llmserve("warm", "third", "--url", server.url, "--prompt", "x").returncode == 0
    short = llmserve("warm", "third", "--url", server.url, "--prefix", "x")
    assert short.returncode == 1, "what was asked for was not done"
    assert "a prefix was not pinned: " in short.stderr
    ran = llmserve("unload", "third", "--url", server.url, "--timeout", "5")
    assert ran.stdout.count("unload third in") == 2
    assert ask(server, "third").status_code == 503


def test_a_reload_serves_without_a_gap(server: Server) -> None:
    assert llmserve("reload", "first", "--url", server.url).returncode == 0
    assert ask(server, "first").status_code == 200
