"""Clients that send too much, too slowly, or never read: bounded, and nobody else notices."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import time
from collections.abc import Iterable, Iterator
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
        header_timeout_seconds=1,
        body_timeout_seconds=1,
        send_timeout_seconds=1,
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


def send_all(connection: socket.socket, parts: Iterable[bytes]) -> None:
    for part in parts:
        connection.sendall(part)


def read_answer(connection: socket.socket) -> bytes:
    """One answer with a Content-Length: its head and its body may come apart."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += _received(connection, 1)
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += _received(connection, length - len(body))
    return head + body


def _received(connection: socket.socket, at_most: int) -> bytes:
    part = connection.recv(at_most)
    assert part, "the connection was closed within an answer"
    return part


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


REQUEST = json.dumps({"prompt": "hi", "max_tokens": 2}).encode()
JSON_HEADERS = {"Content-Type": "application/json"}


def post_encoded(server: Server, body: bytes | Iterator[bytes], encoding: str) -> httpx.Response:
    headers = JSON_HEADERS | {"Content-Encoding": encoding}
    return httpx.post(server.url + "/generate", content=body, headers=headers, timeout=20)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_a_gzip_body_is_read_whole_or_in_pieces(server: Server, encoding: str) -> None:
    packed = gzip.compress(REQUEST)
    for body in (packed, iter([packed[:5], packed[5:6], packed[6:]])):
        answer = post_encoded(server, body, encoding)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] <= 2


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "aes128gcm" * 20])
def test_another_encoding_is_named_and_refused(server: Server, encoding: str) -> None:
    answer = post_encoded(server, REQUEST, encoding)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (415, "unsupported_encoding")
    assert error["param"] == "Content-Encoding"
    assert repr(encoding[:100]) in error["message"]
    assert answer.headers["accept-encoding"] == "gzip"


def test_two_encodings_are_not_one(server: Server) -> None:
    headers = [*JSON_HEADERS.items(), ("Content-Encoding", "gzip"), ("Content-Encoding", "br")]
    answer = httpx.post(server.url + "/generate", content=gzip.compress(REQUEST), headers=headers)
    assert answer.status_code == 415
    assert "'gzip, br'" in answer.json()["error"]["message"]


def test_no_encoding_is_one_too(server: Server) -> None:
    assert post_encoded(server, REQUEST, "identity").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (gzip.compress(b'{"prompt":"' + b"x" * 100_000_000 + b'"}'), 413, "100,000 bytes"),
        (gzip.compress(b'{"prompt":"' + b"x" * 99_000 + b'"}'), 400, "maximum context length"),
        (gzip.compress(b"{}") * 3000, 400, "members"),
        (gzip.compress(b"{}")[:-1], 400, "cut short"),
        (REQUEST, 400, "not the gzip"),
        (b"", 400, "JSON object"),
        (gzip.compress(b"{"), 400, "not valid JSON"),
    ],
    ids=["bomb", "at the bound", "members", "cut", "plain", "empty", "no JSON"],
)
def test_a_gzip_body_has_the_bounds_of_a_plain_one(
    server: Server, body: bytes, status: int, words: str
) -> None:
    answer = post_encoded(server, body, "gzip")
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


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
    requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 16
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(unread(server)).sendall(requests)
        # Their answers fill every buffer and nobody reads them: the server gives them up, while
        # the sockets are open here.
        wait_for_connections(server, 1)


@contextlib.contextmanager
def unread(server: Server) -> Iterator[socket.socket]:
    """A connection whose client's kernel holds almost nothing for it."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", server.port))
        yield connection


def test_the_last_bytes_of_an_answer_are_not_waited_for_either(server: Server) -> None:
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(unread(server)).sendall(request)
        wait_for_connections(server, 1)


def test_requests_sent_ahead_are_answered_up_to_a_bound_that_the_client_is_told(
    server: Server,
) -> None:
    with raw(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        response = read_all(connection)
    assert response.count(b"HTTP/1.1 200") == 1 + 16
    last = response[response.rindex(b"HTTP/1.1 200") :]
    assert b"connection: close" in last
    assert response.count(b"connection: close") == 1


def test_who_hangs_up_cancels_the_request_in_progress_not_only_the_newest(server: Server) -> None:
    body = json.dumps({"prompt": "hi", "max_tokens": 400, "ignore_eos": True, "stream": True})
    request = (
        f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    before = server.metric("llmserve_request_cancelled_total")
    with raw(server) as connection:
        connection.sendall(request * 3)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        server.wait_for_load(1, 0)
    server.wait_for_load(0, 0)
    assert server.metric("llmserve_request_cancelled_total") == before + 1
    assert "Traceback" not in server.log  # of a write to a connection that is gone


@pytest.mark.parametrize(
    "endless", [b"".join(b"X-%d: y\r\n" % number for number in range(1000)), b"y" * 10_000]
)
def test_trailers_that_never_end(server: Server, endless: bytes) -> None:
    with raw(server) as connection:
        connection.sendall(
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: "
        )
        with pytest.raises(ConnectionError):
            send_all(connection, itertools.repeat(endless, 10_000))


def test_trailers_are_no_headers(server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Request-ID: trailer\r\n\r\n"
        )
        assert b"x-request-id: trailer" not in connection.recv(65536).lower()


def test_a_body_behind_its_answer_may_come_but_not_for_ever(server: Server) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    with raw(server) as connection:
        connection.sendall(head)
        assert read_answer(connection).startswith(b"HTTP/1.1 404")
        connection.sendall(b"0123456789" + head)
        assert read_answer(connection).startswith(b"HTTP/1.1 404")
        connection.sendall(b"0")
        assert read_all(connection) == b""


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Masked with zeros, as a client may; `payload` of up to 125 bytes."""
    return bytes([opcode | 0x80 * fin, 0x80 | len(payload)]) + bytes(4) + payload


def test_pings_whose_answers_nobody_reads(server: Server) -> None:
    pings = frame(9, b"x" * 125) * 1000
    with unread(server) as connection:
        connection.sendall(HANDSHAKE)
        with pytest.raises(ConnectionError):
            send_all(connection, itertools.repeat(pings, 2000))  # 262 MB


def test_a_message_in_endless_fragments(server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(HANDSHAKE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 101")
        connection.sendall(frame(1, b"", fin=False))
        with contextlib.suppress(ConnectionError):
            connection.sendall(frame(0, b"", fin=False) * 5000)
        assert b"fragments" in read_all(connection)


def wait_for_connections(server: Server, count: int) -> None:
    deadline = time.monotonic() + 60
    while connections(server) > count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def connections(server: Server) -> int:
    """As the worker counts them; this question is one."""
    headers = {"Connection": "close"}
    status = httpx.get(server.url + "/admin/status", headers=headers, timeout=20).json()
    return int(status["workers"][0]["connections"])
