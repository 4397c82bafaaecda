"""Responses in the background on two workers, one of which may end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import httpx
from box import is_replaced, pids, wait_until
from server import Server

LONG = {
    "input": "Once upon a time",
    "background": True,
    "ignore_eos": True,
    "max_output_tokens": 400,
    "model": "first",
}
RUNNING = ("queued", "in_progress")


def begun(server: Server, count: int) -> list[str]:
    """So many responses that take long, each by a connection of its own."""
    return [
        httpx.post(server.url + "/v1/responses", json=LONG, timeout=60).json()["id"]
        for _ in range(count)
    ]


def told(server: Server, response_id: str) -> dict[str, Any]:
    """By whichever worker takes the connection."""
    body: dict[str, Any] = httpx.get(f"{server.url}/v1/responses/{response_id}", timeout=60).json()
    return body


def still_running(server: Server, ids: Sequence[str]) -> list[str]:
    return [one for one in ids if told(server, one)["status"] in RUNNING]


def test_one_that_runs_in_another_worker_is_cancelled(pair: Server) -> None:
    ids = begun(pair, 16)
    cancelled = []
    for one in ids:
        answer = httpx.post(f"{pair.url}/v1/responses/{one}/cancel", timeout=60)
        assert answer.status_code == 200
        if answer.json()["status"] == "cancelled":
            cancelled.append(one)
    assert cancelled
    pair.wait_for_load(0, 0)
    assert {told(pair, one)["status"] for one in cancelled} == {"cancelled"}


def test_what_a_killed_worker_generated_has_failed_and_the_rest_goes_on(pair: Server) -> None:
    victim = next(iter(pids(pair).values()))
    ids = begun(pair, 16)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: is_replaced(pair, victim), "another worker serves")
    deadline = time.monotonic() + 60
    while still_running(pair, ids):
        assert time.monotonic() < deadline
    ends = [told(pair, one) for one in ids]
    failed = [end for end in ends if end["status"] == "failed"]
    assert failed
    assert all("worker" in end["error"]["message"] for end in failed)
    others = {end["status"] for end in ends if end not in failed}
    assert others <= {"incomplete"}, "400 tokens and not the end"
