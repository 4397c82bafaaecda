"""On a local Ray: streams, scaling, a replica that is killed, cancels, operators, the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from crowd import Crowd
from needs import needs_package
from ray_cluster import RayServer, running_ray
from server import DEMO
from websockets.sync.client import connect

needs_package("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ARGUMENTS = {
    "autoscaling_config": {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 8.0,
        "metrics_interval_s": 0.5,
        "look_back_period_s": 1.0,
    }
}
LONG = {"prompt": "Once upon a time", "max_tokens": 900, "ignore_eos": True, "stream": True}
BURST = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServer]:
    folder = tmp_path_factory.mktemp("ray")
    with running_ray(folder, dict(ARGUMENTS), models=DEMO, torch_threads=1) as running:
        yield running


@contextlib.contextmanager
def crowd_of(server: RayServer, size: int) -> Iterator[Crowd]:
    """Clients that ask again and again within the context; their loop has a thread of its own."""
    crowd, is_over = Crowd(server.url, size, max_tokens=60, pause_seconds=0.05), threading.Event()

    async def ask() -> None:
        async with crowd:
            await asyncio.to_thread(is_over.wait)

    thread = threading.Thread(target=asyncio.run, args=(ask(),))
    thread.start()
    try:
        yield crowd
    finally:
        is_over.set()
        thread.join(120)
        assert not thread.is_alive()


def wait_for(crowd: Crowd, answers: int) -> None:
    """Wait until so many more have ended well."""
    wanted = sum(outcome.is_done for outcome in crowd.outcomes) + answers
    deadline = time.monotonic() + 120
    while sum(outcome.is_done for outcome in crowd.outcomes) < wanted:
        assert time.monotonic() < deadline, crowd.outcomes[-5:]
        time.sleep(0.05)


def answered(server: RayServer, replica: str) -> float:
    """How many prompts a replica has answered."""
    return server.metric("llmserve_http_requests_total", replica=replica, route="/generate")


def test_a_stream_comes_token_by_token(server: RayServer) -> None:
    body = LONG | {"max_tokens": 40}
    with httpx.stream("POST", server.url + "/generate", json=body, timeout=60) as response:
        chunks = list(response.iter_raw())
        assert response.headers.get_list("x-request-id") == [response.headers["x-request-id"]]
    assert len(chunks) > 10
    assert b"".join(chunks).count(b"event: done") == 1


def test_every_dialect_has_its_routes_and_errors(server: RayServer) -> None:
    post = httpx.post
    chat = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    assert post(server.url + "/v1/chat/completions", json=chat).json()["usage"]
    assert post(server.url + "/v1/messages", json=chat).json()["type"] == "message"
    ollama = {"model": "demo", "messages": chat["messages"], "options": {"num_predict": 4}}
    assert post(server.url + "/api/chat", json=ollama | {"stream": False}).json()["done"] is True
    unknown = post(server.url + "/v1/messages", json=chat | {"model": "nobody"})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "error")
    large = post(server.url + "/api/chat", content=b"x" * 5_000_000)
    assert large.status_code == 413
    assert isinstance(large.json()["error"], str)


def test_a_websocket_takes_prompts_and_cancels(server: RayServer) -> None:
    with connect(server.url.replace("http", "ws") + "/ws") as client:
        client.send(json.dumps({"id": "a"} | {k: v for k, v in LONG.items() if k != "stream"}))
        first = json.loads(client.recv(30))
        assert first["type"] in ("token", "queued"), first
        client.send(json.dumps({"type": "cancel", "id": "a"}))
        frames = iter(lambda: json.loads(client.recv(30)), None)
        last = next(frame for frame in frames if frame["type"] not in ("token", "queued"))
    assert (last["type"], last["finish_reason"]) == ("done", "cancelled")
    server.wait_until_idle()


def test_the_metrics_of_all_replicas_say_whose_they_are(server: RayServer) -> None:
    names = {replica["replica"] for replica in server.replicas()}
    text = httpx.get(server.url + "/metrics", timeout=30).text
    assert all(f'replica="{name}"' in text for name in names)
    assert text.count("# TYPE llmserve_num_requests_running gauge") == 1


def test_nobody_operates_without_a_key(server: RayServer) -> None:
    assert httpx.get(server.url + "/admin/status").status_code == 401


def test_load_adds_a_replica_and_operators_reach_both(server: RayServer) -> None:
    with crowd_of(server, 8) as crowd:
        both = server.wait_for_replicas(2)
        warmed = server.admin("POST", "/admin/warm", json={"prompts": ["Once"]}).json()
        wait_for(crowd, 8)
    assert warmed["ok"] is True
    assert {w["replica"] for w in warmed["workers"]} == {r["replica"] for r in both}
    assert all(outcome.is_done for outcome in crowd.outcomes)


def test_prompts_that_begin_alike_go_to_one_replica(server: RayServer) -> None:
    with crowd_of(server, 8):
        names = {replica["replica"] for replica in server.wait_for_replicas(2)}
    before = {name: answered(server, name) for name in names}
    body = {"prompt": "The fox and the hen went to the river. " * 10, "max_tokens": 2}
    for _ in range(6):
        assert httpx.post(server.url + "/generate", json=body, timeout=60).status_code == 200
    grown = [answered(server, name) - before[name] for name in names]
    assert sorted(grown) == [0, 6]


def test_when_a_replica_is_killed_under_load_the_other_goes_on(server: RayServer) -> None:
    with crowd_of(server, 8) as crowd:
        victim, other = server.wait_for_replicas(2)
        wait_for(crowd, 8)
        os.kill(victim["pid"], signal.SIGKILL)
        wait_for(crowd, 16)
        names = {victim["replica"]}
        deadline = time.monotonic() + 240
        while victim["replica"] in names or len(names) < 2:
            assert time.monotonic() < deadline, f"the victim is not replaced: {names}"
            time.sleep(0.2)
            names = {replica.get("replica", "") for replica in server.replicas()}
        assert other["replica"] in names
    assert all(outcome.is_told for outcome in crowd.outcomes), [
        outcome for outcome in crowd.outcomes if not outcome.is_told
    ]


def test_a_burst_of_cancels_frees_every_slot_and_lets_a_replica_go(server: RayServer) -> None:
    """A replica goes once Ray, too, counts none of the requests that were cancelled. (Ray's own
    proxy logs a traceback for some of those who leave.)"""
    written = len(server.log)
    body = json.dumps(LONG).encode()
    head = (
        "POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with crowd_of(server, 8):
        before = {replica["pid"] for replica in server.wait_for_replicas(2)}
    for number in range(BURST):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(head.encode() + body)
            if number % 3 == 0:  # the others leave before their replica begins
                client.recv(64)
    server.wait_until_idle()
    (left,) = server.wait_for_replicas(1)
    assert left["pid"] in before
    with httpx.stream("POST", server.url + "/generate", json=LONG | {"max_tokens": 5}) as response:
        assert b"event: done" in response.read()
    lines = server.log[written:].splitlines()
    assert not [line for line in lines if "Traceback" in line and "(ProxyActor " not in line]


def test_who_streams_while_it_stops_gets_the_whole_answer(server: RayServer) -> None:
    body = LONG | {"max_tokens": 200}
    with httpx.stream("POST", server.url + "/generate", json=body, timeout=60) as response:
        lines = response.iter_lines()
        assert next(lines)
        server.leave()
        assert "event: done" in list(lines)
    server.process.wait(90)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/health")
