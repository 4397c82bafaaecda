"""Clients that send too much, too slowly, or never read: bounded, and nobody else notices."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from bounded import run
from server import Server, running_server
from websockets.asyncio.client import connect

HEADER_BYTES = 4096


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("bounds"),
        tiny_model,
        max_header_bytes=HEADER_BYTES,
        header_timeout_seconds=0.5,
        body_timeout_seconds=0.5,
        send_timeout_seconds=0.5,
        idle_connection_seconds=1,
        max_body_bytes=100_000,
        max_json_depth=20,
        max_connections=40,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def still_healthy(server: Server) -> Iterator[None]:
    yield
    assert httpx.get(server.url + "/health", timeout=20).status_code == 200
    server.wait_for_load(0, 0)


@contextlib.contextmanager
def raw(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def read_health(connection: socket.socket) -> bytes:
    """One answer of /health, whose body is a flat JSON object in another."""
    response = b""
    while not response.endswith(b"}}"):
        response += connection.recv(65536)
    return response


def answer_of(response: bytes) -> tuple[int, str]:
    head, _, body = response.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def test_headers_that_never_end_are_answered_and_closed(server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert answer_of(read_all(connection)) == (408, "header_timeout")


def test_who_connects_and_says_nothing_is_let_go(server: Server) -> None:
    with raw(server) as connection:
        assert read_all(connection) == b""


def test_a_second_request_has_its_own_time_for_headers(server: Server) -> None:
    with raw(server) as connection:
        for _ in range(3):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_health(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /health HT")
        assert answer_of(read_all(connection)) == (408, "header_timeout")


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Long: " + b"x" * 2 * HEADER_BYTES + b"\r\n\r\n",
        b"X-Endless: " + b"x" * 2 * HEADER_BYTES,
        b"".join(b"X-%d: y\r\n" % number for number in range(300)) + b"\r\n",
    ],
)
def test_headers_that_are_too_large_or_too_many(server: Server, headers: bytes) -> None:
    with raw(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + headers)
        assert answer_of(read_all(connection)) == (431, "headers_too_large")


def test_a_long_path_counts_too(server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(b"GET /" + b"x" * 2 * HEADER_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer_of(read_all(connection)) == (431, "headers_too_large")


def test_what_is_no_http_is_told_so_in_our_shape(server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(b"\x16\x03\x01 no TLS here\r\n\r\n")
        assert answer_of(read_all(connection)) == (400, "invalid_request")


@pytest.mark.parametrize("framing", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
def test_a_body_that_never_comes(server: Server, framing: bytes) -> None:
    with raw(server) as connection:
        connection.sendall(
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + framing
            + b"\r\n\r\n"
        )
        if b"chunked" in framing:
            connection.sendall(b"1\r\n{\r\n")
        assert answer_of(read_all(connection)) == (408, "body_timeout")


def test_a_complete_body_has_all_the_time_it_wants_for_its_answer(server: Server) -> None:
    body = {"prompt": "hi", "max_tokens": 450, "ignore_eos": True}
    answer = httpx.post(server.url + "/generate", json=body, timeout=60)
    assert answer.status_code == 200


def test_json_that_is_too_deep_on_http_and_websocket(server: Server) -> None:
    deep = '{"prompt":' + "[" * 30 + "]" * 30 + "}"
    headers = {"Content-Type": "application/json"}
    for path in ("/generate", "/v1/completions"):
        answer = httpx.post(server.url + path, content=deep, headers=headers)
        assert answer.status_code == 400
        assert "limit of 20 levels" in answer.json()["error"]["message"]

    async def test() -> None:
        async with connect(server.url.replace("http", "ws") + "/ws") as ws:
            await ws.send(deep)
            frame = json.loads(await ws.recv())
            assert (frame["type"], "20 levels" in frame["error"]["message"]) == ("error", True)

    run(test)


def test_a_declared_length_over_the_limit_is_not_waited_for(server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "a\0b", "~root", "\u202e"]
)
def test_a_model_is_a_name_and_never_a_path(server: Server, name: str) -> None:
    answer = httpx.post(server.url + "/generate", json={"prompt": "x", "model": name})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    if "\0" not in name:
        answer = httpx.get(server.url + "/v1/models/" + name.replace("/", "%2F"))
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] in ("model_not_found", "not_found")


def test_idle_connections_are_closed_and_new_ones_served(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(raw(server)) for _ in range(60)]
        assert httpx.get(server.url + "/health", timeout=20).status_code == 200
        assert all(read_all(connection) == b"" for connection in idle)


def test_a_reader_that_takes_nothing_is_cut_off(server: Server) -> None:
    requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(requests)
        # Their answers fill every buffer and nobody reads them: the server gives them up, while
        # the sockets are open here.
        deadline = time.monotonic() + 60
        while connections(server) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def connections(server: Server) -> int:
    """As the worker counts them; this question is one."""
    headers = {"Connection": "close"}
    status = httpx.get(server.url + "/admin/status", headers=headers, timeout=20).json()
    return int(status["workers"][0]["connections"])
