"""Clients that ask for another protocol, or speak an older one: what they sent is served."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from server import Server, idle_server

CLIENT = Path(__file__).with_name("Client.java")
BODY = json.dumps({"prompt": "Once", "max_tokens": 3, "ignore_eos": True}).encode()
STREAM = json.dumps({"prompt": "Once", "max_tokens": 3, "stream": True}).encode()
UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAABgAGAAA\r\n"
)
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def post(body: bytes, *headers: bytes, version: bytes = b"1.1", is_chunked: bool = False) -> bytes:
    """POST /generate; a chunked body comes in two chunks."""
    if is_chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
        pieces = [body[:7], body[7:]]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    else:
        framing = b"Content-Length: %d\r\n" % len(body)
    return b"".join(
        (
            b"POST /generate HTTP/%b\r\nHost: x\r\nContent-Type: application/json\r\n" % version,
            *headers,
            framing,
            b"\r\n",
            body,
        )
    )


class Answer:
    """One response as it came over the wire."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.status = int(head.split()[1])
        lines = head.decode("latin-1").lower().split("\r\n")[1:]
        self.headers = [tuple(line.split(": ", 1)) for line in lines]
        self.body = body

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Until the end of the headers; and what came behind them."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        assert part, f"the server closed after {received!r}"
        received += part
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def read_answers(connection: socket.socket, count: int) -> list[Answer]:
    """So many responses that tell their length."""
    answers: list[Answer] = []
    received = b""
    while len(answers) < count:
        head, separator, rest = received.partition(b"\r\n\r\n")
        if separator:
            length = int(Answer(head, b"").values("content-length")[0])
            if len(rest) >= length:
                answers.append(Answer(head, rest[:length]))
                received = rest[length:]
                continue
        part = connection.recv(65536)
        assert part, f"the server closed after {len(answers)} answers and {received!r}"
        received += part
    return answers


def read_to_end(connection: socket.socket) -> Answer:
    """One response that ends with its connection."""
    head, body = read_head(connection)
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            body += part
    return Answer(head, body)


def send(connection: socket.socket, packets: Sequence[bytes]) -> None:
    """Each in a packet of its own, which the kernel acknowledges before the next one goes."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for packet in packets:
        connection.sendall(packet)


def cut(request: bytes, at: Sequence[int]) -> list[bytes]:
    ends = [*at, len(request)]
    return [request[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("how", ["one packet", "head, then body", "byte by byte"])
def test_an_upgrade_that_is_not_ours_is_ignored_and_its_body_read(
    connection: socket.socket, how: str, is_chunked: bool
) -> None:
    request = post(BODY, UPGRADE, is_chunked=is_chunked)
    end_of_head = request.index(b"\r\n\r\n") + 4
    places = {
        "one packet": [],
        "head, then body": [end_of_head, end_of_head + 12],
        "byte by byte": range(1, len(request)),
    }
    send(connection, cut(request, places[how]))
    [answer] = read_answers(connection, 1)
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["usage"]["completion_tokens"] == 3
    connection.sendall(HEALTH + b"\r\n")  # and the connection goes on
    assert read_answers(connection, 1)[0].status == 200


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_requests_behind_an_upgrade_are_served_in_their_turn(
    connection: socket.socket, is_chunked: bool
) -> None:
    plain = post(BODY, is_chunked=is_chunked)
    upgrading = post(BODY, UPGRADE, is_chunked=is_chunked)
    health = HEALTH + UPGRADE + b"\r\n"
    connection.sendall(upgrading + plain + health + upgrading + HEALTH + b"\r\n")
    answers = read_answers(connection, 5)
    assert [answer.status for answer in answers] == [200] * 5
    kinds = ["result" if b'"result"' in answer.body else "health" for answer in answers]
    assert kinds == ["result", "result", "health", "result", "health"]


def test_requests_behind_an_upgrade_are_bounded_like_all_others(
    connection: socket.socket,
) -> None:
    connection.sendall((HEALTH + UPGRADE + b"\r\n") * 1000)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 200") == 1 + 16


def test_headers_of_an_upgrade_are_bounded_like_all_others(connection: socket.socket) -> None:
    connection.sendall(HEALTH + UPGRADE + b"X: " + b"x" * 40_000 + b"\r\n\r\n" + HEALTH + b"\r\n")
    assert read_to_end(connection).status == 431


@pytest.mark.parametrize("protocol", [b"TLS/1.0", b"HTTP/2.0, SHTTP/1.3", b"", b"websocket/13"])
def test_every_other_upgrade_is_ignored_too(connection: socket.socket, protocol: bytes) -> None:
    asks = b"Connection: keep-alive, Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    connection.sendall(post(BODY, asks) + HEALTH + b"\r\n")
    assert [answer.status for answer in read_answers(connection, 2)] == [200, 200]


def test_a_stream_is_served_to_who_asks_for_an_upgrade(connection: socket.socket) -> None:
    connection.sendall(post(STREAM, b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n"))
    answer = read_to_end(connection)
    assert answer.status == 200
    assert b"event: done" in answer.body


def test_a_tunnel_is_refused(connection: socket.socket) -> None:
    connection.sendall(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + HEALTH + b"\r\n")
    assert read_head(connection)[0].split()[1] in (b"400", b"404", b"405")


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no java")
def test_the_client_of_the_jdk_is_served(server: Server) -> None:
    done = subprocess.run(
        ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", CLIENT,
         server.url + "/generate", BODY.decode()],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )  # fmt: skip
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["200"] * 4


@pytest.mark.parametrize("keep_alive", [b"", b"Connection: keep-alive\r\n"])
def test_http_1_0_gets_a_stream_that_ends_with_its_connection(
    connection: socket.socket, keep_alive: bytes
) -> None:
    connection.sendall(post(STREAM, keep_alive, version=b"1.0"))
    answer = read_to_end(connection)
    assert answer.status == 200
    assert answer.values("transfer-encoding") == []
    assert answer.values("content-length") == []
    assert answer.values("connection") == ["close"]
    assert answer.body.startswith(b": accepted\n\n")
    assert answer.body.endswith(b"}}\n\n")
    assert answer.body.count(b"event: done\ndata: ") == 1


def test_http_1_0_gets_whole_answers_with_their_length(connection: socket.socket) -> None:
    connection.sendall(post(BODY, version=b"1.0"))
    answer = read_to_end(connection)
    assert answer.status == 200
    assert answer.values("content-length") == [str(len(answer.body))]
    assert answer.values("connection") == ["close"]


@pytest.mark.parametrize(
    ("request_bytes", "connections"),
    [
        (post(STREAM), []),
        (post(STREAM, b"Connection: keep-alive\r\n"), []),
        (post(STREAM, b"Connection: close\r\n"), ["close"]),
        (post(BODY), []),
        (post(BODY, b"Connection: close\r\n"), ["close"]),
        (post(b"{"), []),
        (post(BODY, version=b"1.0"), ["close"]),
        (HEALTH + b"\r\n", []),
        (b"GET /nowhere HTTP/1.0\r\nHost: x\r\n\r\n", ["close"]),
        (b"HEAD /docs HTTP/1.0\r\nHost: x\r\n\r\n", ["close"]),
        (b"no HTTP at all\r\n\r\n", ["close"]),
        (HANDSHAKE, ["upgrade"]),
        (HANDSHAKE.replace(b"Host: x", b"Host: x\r\nOrigin: http://y"), ["close"]),
    ],
)
def test_an_answer_has_one_connection_header_at_most(
    connection: socket.socket, request_bytes: bytes, connections: list[str]
) -> None:
    connection.sendall(request_bytes)
    head, _ = read_head(connection)
    assert Answer(head, b"").values("connection") == connections


def test_a_retiring_worker_says_close_once_and_still_takes_websockets(
    tiny_model: Path, tmp_path: Path
) -> None:
    requests = [post(STREAM), post(BODY), post(BODY, version=b"1.0"), HANDSHAKE]
    with idle_server(tmp_path, tiny_model) as server, contextlib.ExitStack() as stack:
        kept = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            for _ in requests
        ]
        for connection in kept:
            connection.sendall(HEALTH + b"\r\n")
            assert read_answers(connection, 1)[0].values("connection") == []
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("retiring: another worker takes over", times=1)
        answers = []
        for connection, request in zip(kept, requests, strict=True):
            connection.sendall(request)
            answers.append(Answer(read_head(connection)[0], b""))
        told = [(answer.status, answer.values("connection")) for answer in answers]
        assert told == [(200, ["close"])] * 3 + [(101, ["upgrade"])]
