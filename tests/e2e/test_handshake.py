"""WebSocket handshakes that are none, are too large or come too early: each has its answer."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest
from answers import Answers
from server import Server, idle_server

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
WISH = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
WS = WISH + VERSION + KEY
HEAD = b"GET /ws HTTP/1.1\r\nHost: x\r\n"
BODY = json.dumps({"prompt": "Once", "max_tokens": 3, "ignore_eos": True}).encode()
LENGTH = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
POST = b"POST /generate HTTP/1.1\r\nHost: x\r\n" + LENGTH
CHUNKED = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
FRAME = b"\x81\x83\0\0\0\0{}}"
"""A text that is no JSON, which is answered."""


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X-Cookie: " + b"a" * 9000 + b"\r\n",
        HEAD + b"X-Cookie: " + b"a" * 20_000 + b"\r\n",
        HEAD.replace(b"/ws", b"/ws?" + b"a" * 9000),
        HEAD + b"".join(b"X-%d: %b\r\n" % (i, b"a" * 250) for i in range(100)),
        HEAD + b"Content-Length: 0\r\n",
        HEAD + b"X-Latin: \xfc\r\n",
    ],
    ids=["9 kB", "20 kB", "a long url", "many", "no body", "latin-1"],
)
def test_a_handshake_succeeds_up_to_the_bound_on_headers(
    connection: socket.socket, head: bytes
) -> None:
    connection.sendall(head + WS + b"\r\n")
    status, headers, _ = Answers(connection).next()
    assert status == 101
    assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert headers["x-request-id"]


@pytest.mark.parametrize("size", [32_700, 40_000, 200_000])
def test_headers_of_a_handshake_are_bounded_like_all_others(
    connection: socket.socket, size: int
) -> None:
    connection.sendall(HEAD + b"X-Cookie: " + b"a" * size + b"\r\n" + WS + b"\r\n")
    assert Answers(connection).error() == (431, "headers_too_large")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (HEAD + WS + b"Content-Length: 3\r\n\r\nabc", 404),
        (HEAD + WS + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 404),
        (POST + WS + b"\r\n" + BODY, 200),
        (
            POST.replace(LENGTH, CHUNKED) + WS + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
            200,
        ),
        (POST.replace(b"POST", b"GET") + WS + b"\r\n" + BODY, 405),
        (HEAD.replace(b"GET", b"POST") + WS + b"\r\n", 404),
        (HEAD.replace(b"GET", b"HEAD") + WS + b"\r\n", 404),
    ],
    ids=["length", "chunked", "post", "post chunked", "get generate", "post ws", "head"],
)
def test_what_cannot_be_a_websocket_is_served_as_if_it_did_not_ask(
    connection: socket.socket, request_bytes: bytes, status: int
) -> None:
    connection.sendall(request_bytes + HEALTH)
    answers = Answers(connection)
    assert answers.next(has_body=not request_bytes.startswith(b"HEAD"))[0] == status
    assert answers.next()[0] == 200  # and the connection goes on


def test_a_body_that_was_announced_and_does_not_come_keeps_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    with (
        idle_server(tmp_path, tiny_model, header_timeout_seconds=2) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        connection.sendall(HEAD + WS + b"Content-Length: 3\r\n\r\n")
        answers = Answers(connection)
        assert answers.error() == (404, "not_found")
        assert answers.rest() == b""
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log


def test_http_1_0_has_no_websockets(connection: socket.socket) -> None:
    connection.sendall(HEAD.replace(b"1.1", b"1.0") + WS + b"\r\n")
    answers = Answers(connection)
    assert answers.error() == (404, "not_found")
    assert answers.rest() == b""


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (HEAD + WISH + VERSION, (400, "invalid_request")),
        (HEAD + WISH + KEY, (426, "upgrade_required")),
        (HEAD + WISH + KEY + VERSION.replace(b"13", b"8"), (426, "upgrade_required")),
        (HEAD + WISH + VERSION + b"Sec-WebSocket-Key: short\r\n", (400, "invalid_request")),
        (HEAD + WISH + VERSION + b"Sec-WebSocket-Key: \xff\r\n", (400, "invalid_request")),
        (HEAD + WISH + VERSION + b"Sec-WebSocket-Key: " + b"a" * 9000, (400, "invalid_request")),
        (HEAD + WS + KEY, (400, "invalid_request")),
        (HEAD + WS + b"Sec-WebSocket-Extensions: ;;\r\n", (400, "invalid_request")),
        (HEAD + WS + b"Origin: http://x\r\nOrigin: http://x\r\n", (400, "invalid_request")),
        (HEAD + WS + b"Origin: http://[x\r\n", (403, "forbidden")),
        (HEAD + WS + b"Origin: null\r\n", (403, "forbidden")),
        (HEAD.replace(b"Host: x", b"Host:") + WS + b"Origin: null\r\n", (403, "forbidden")),
        (HEAD.replace(b"/ws", b"/generate") + WS, (404, "not_found")),
        (HEAD.replace(b"/ws", b"/nowhere") + WS, (404, "not_found")),
        (HEAD.replace(b"/ws", b"http://x/ws") + WS, (404, "not_found")),
    ],
)
def test_a_handshake_that_is_refused_is_told_why_in_our_shape(
    connection: socket.socket, head: bytes, expected: tuple[int, str]
) -> None:
    connection.sendall(head.removesuffix(b"\r\n") + b"\r\n\r\n")
    answers = Answers(connection)
    assert answers.error() == expected
    assert answers.rest() == b""


def test_a_key_in_a_malformed_header_is_not_logged(
    server: Server, connection: socket.socket
) -> None:
    connection.sendall(HEAD + WS + b"Sec-WebSocket-Protocol: llmserve.key.my/secret\r\n\r\n")
    _, _, body = Answers(connection).next()
    assert json.loads(body)["error"]["param"] == "Sec-WebSocket-Protocol"
    assert b"secret" not in body
    assert "secret" not in server.log


def test_a_wrong_version_is_told_the_right_one(connection: socket.socket) -> None:
    connection.sendall(HEAD + WISH + KEY + b"\r\n")
    _, headers, _ = Answers(connection).next()
    told = (headers["sec-websocket-version"], headers["upgrade"], headers["connection"])
    assert told == ("13", "websocket", "Upgrade, close")


@pytest.mark.parametrize(
    "wishes",
    [
        b"Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
        b"Upgrade: h2c, WebSocket\r\nConnection: keep-alive, Upgrade\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nConnection: keep-alive\r\n",
    ],
)
def test_of_several_wishes_the_websocket_is_granted(
    connection: socket.socket, wishes: bytes
) -> None:
    connection.sendall(HEAD + wishes + VERSION + KEY + b"\r\n")
    status, headers, _ = Answers(connection).next()
    assert (status, headers["upgrade"]) == (101, "websocket")


def test_frames_in_one_packet_with_the_handshake_are_not_lost(connection: socket.socket) -> None:
    connection.sendall(HEAD + WS + b"\r\n" + FRAME + FRAME)
    answers = Answers(connection)
    assert answers.next()[0] == 101
    answers.until(b"not valid JSON", times=2)


def test_garbage_behind_the_handshake_closes_the_websocket(connection: socket.socket) -> None:
    connection.sendall(HEAD + WS + b"\r\n" + b"garbage")
    answers = Answers(connection)
    assert answers.next()[0] == 101
    assert answers.rest().startswith(b"\x88")


@pytest.mark.parametrize("is_handshake", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_a_websocket_behind_a_request_in_progress_does_not_mix_with_its_answer(
    connection: socket.socket, count: int, is_handshake: bool
) -> None:
    wish = WS if is_handshake else WISH
    connection.sendall((POST + b"\r\n" + BODY) * count + HEAD + wish + b"\r\n" + FRAME)
    answers = Answers(connection)
    read = [answers.next() for _ in range(count)]
    assert [status for status, _, _ in read] == [200] * count
    assert all(json.loads(body)["usage"]["completion_tokens"] == 3 for _, _, body in read)
    assert [headers.get("connection") for _, headers, _ in read] == [None] * (count - 1) + ["close"]
    assert answers.rest() == b""


def test_a_websocket_after_an_answer_is_opened_on_the_same_connection(
    connection: socket.socket,
) -> None:
    connection.sendall(POST + b"\r\n" + BODY)
    answers = Answers(connection)
    assert answers.next()[0] == 200
    connection.sendall(HEAD + WS + b"\r\n")
    assert answers.next()[0] == 101


def test_a_socket_behind_a_body_that_nobody_wanted_outlives_the_idle_time(
    tiny_model: Path, tmp_path: Path
) -> None:
    with (
        idle_server(tmp_path, tiny_model, idle_connection_seconds=1) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        answers = Answers(connection)
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        assert answers.next()[0] == 404
        connection.sendall(b"x" + HEAD + WS + b"\r\n")
        assert answers.next()[0] == 101
        time.sleep(2)
        connection.sendall(FRAME)
        answers.until(b"not valid JSON")


def test_strangers_cannot_fill_the_server_with_handshakes_and_it_stops_in_silence(
    tiny_model: Path, tmp_path: Path
) -> None:
    requests = [
        HEAD + b"X-Cookie: " + b"a" * 9000 + b"\r\n" + WISH + b"\r\n",
        HEAD + WS + b"Content-Length: 3\r\n\r\n",
        HEAD + WS + b"Transfer-Encoding: chunked\r\n\r\n",
        HEAD + WS + b"Origin: http://[x\r\n\r\n",
        HEAD + WISH + b"\r\n",
    ]
    settings = {"max_connections": 12, "header_timeout_seconds": 1, "api_keys": "k"}
    with (
        idle_server(tmp_path, tiny_model, **settings) as server,
        contextlib.ExitStack() as stack,
    ):
        for request in requests * 4:
            opened = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=20)
            )
            opened.sendall(request)
            assert Answers(opened).error()[0] in (400, 403, 404)
        assert httpx.get(server.url + "/health", timeout=20).status_code == 200
        assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.log
        assert "Error" not in server.log
