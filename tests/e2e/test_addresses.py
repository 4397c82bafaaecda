"""Where a server listens: IPv6, with IPv4 beside it, written with brackets or without."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import httpx
import pytest
from bounded import run
from programs import llmserve
from server import Server, free_port, idle_server, running_server
from websockets.asyncio.client import connect


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def test_everybody_by_ipv6_is_everybody_by_ipv4_too(tiny_model: Path, tmp_path: Path) -> None:
    with running_server(tmp_path, tiny_model, host="::") as server:  # asked by IPv4
        body = {"prompt": "hi", "max_tokens": 1, "private": 1}
        for host in ("127.0.0.1", "[::1]"):
            answer = httpx.post(f"http://{host}:{server.port}/generate", json=body)
            assert answer.status_code == 200
        assert f"on http://[::]:{server.port}" in server.log
        clients = [line for line in server.log.splitlines() if "private" in line]
        assert ["at 127.0.0.1 " in line for line in clients] == [True, False]
        assert "at ::1 " in clients[1]
        assert websocket_answers(server, "127.0.0.1")
        assert "::ffff:" not in server.log
        sizes = ("--requests", 2, "--input-tokens", 8, "--output-tokens", 2)
        benched = llmserve("bench", f"http://[::1]:{server.port}", *sizes)
        assert benched.returncode == 0, benched.stdout + benched.stderr


def websocket_answers(server: Server, host: str) -> bool:
    answers = []

    async def test() -> None:
        async with connect(f"ws://{host}:{server.port}/ws") as ws:
            await ws.send('{"id": "a", "prompt": "hi", "max_tokens": 1, "by_socket": 1}')
            answers.append(await ws.recv())

    run(test)
    return bool(answers)


@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_a_host_may_be_written_as_in_a_url(tiny_model: Path, tmp_path: Path, host: str) -> None:
    with idle_server(tmp_path, tiny_model, wait=False, host=host) as server:
        server.url = f"http://[::1]:{server.port}"
        server.wait_until("/health/ready", 200)
        assert f"on http://[::1]:{server.port}" in server.log
        assert httpx.get(server.url + "/admin/status").status_code == 200  # it is loopback
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{server.port}/health")


def test_a_port_that_is_taken_is_told_as_a_url_has_it(tiny_model: Path, tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        address = ("--host", "[::1]", "--port", port)
        refused = llmserve("serve", tiny_model, *address, cwd=tmp_path)
    assert refused.returncode != 0
    assert f"cannot listen on [::1]:{port}: " in refused.stdout + refused.stderr
