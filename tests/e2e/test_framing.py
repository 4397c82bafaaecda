"""Bodies whose framing is broken, and garbage behind a request: what is due comes, then the end."""

from __future__ import annotations

import json
import socket

import pytest
from answers import Answers
from server import Server

BODY = json.dumps({"prompt": "Once", "max_tokens": 3, "ignore_eos": True}).encode()
STREAM = json.dumps({"prompt": "Once", "max_tokens": 400, "stream": True, "ignore_eos": True})
HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
POST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "bad size": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "bad second size": CHUNKED + b"1\r\n{\r\n-1\r\n}\r\n0\r\n\r\n",
    "no end of a chunk": CHUNKED + b"2\r\n{}!!",
    "bad trailer": CHUNKED + b"2\r\n{}\r\n0\r\nX : y\r\n\r\n",
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "gzip": HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + BODY,
}
GARBAGE = {
    "no http": b"\x16\x03\x01 garbage\r\n\r\n",
    "bad length": b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    "bad url": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "large": b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    **BROKEN,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_body_that_is_no_body_is_told_so(connection: socket.socket, broken: bytes) -> None:
    connection.sendall(broken)
    answers = Answers(connection)
    assert answers.error() == (400, "invalid_request")
    assert answers.rest() == b""


def test_a_body_that_breaks_later_is_told_so(server: Server, connection: socket.socket) -> None:
    connection.sendall(CHUNKED + b"1\r\n{\r\n")
    server.wait_until("/health", 200)  # it waits for more
    connection.sendall(b"zz\r\n")
    answers = Answers(connection)
    assert answers.error() == (400, "invalid_request")
    assert answers.rest() == b""


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_what_was_asked_before_has_its_answer(
    connection: socket.socket, garbage: bytes, count: int
) -> None:
    connection.sendall(POST * count + garbage)
    answers = Answers(connection)
    read = [answers.next() for _ in range(count)]
    assert [status for status, _, _ in read] == [200] * count
    assert all(json.loads(body)["usage"]["completion_tokens"] == 3 for _, _, body in read)
    assert [headers.get("connection") for _, headers, _ in read] == [None] * (count - 1) + ["close"]
    assert answers.rest() == b""


def test_a_stream_that_has_begun_comes_to_its_end(connection: socket.socket) -> None:
    body = STREAM.encode()
    connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answers = Answers(connection)
    answers.until(b"data: ")
    connection.sendall(GARBAGE["no http"])
    rest = answers.rest()
    assert rest.count(b"event: done") == 1
    assert rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_after_an_answer_is_told_so(connection: socket.socket, garbage: bytes) -> None:
    connection.sendall(POST)
    answers = Answers(connection)
    assert answers.next()[0] == 200
    connection.sendall(garbage)
    assert answers.error()[0] == (431 if len(garbage) > 32768 else 400)
    assert answers.rest() == b""


def test_garbage_after_a_body_that_nobody_wanted_is_told_so(connection: socket.socket) -> None:
    connection.sendall(EARLY)
    answers = Answers(connection)
    assert answers.error() == (404, "not_found")
    connection.sendall(b"0\r\n\r\n" + GARBAGE["no http"])
    assert answers.error() == (400, "invalid_request")
    assert answers.rest() == b""


def test_a_body_that_nobody_wanted_and_breaks_has_had_its_answer(
    connection: socket.socket,
) -> None:
    connection.sendall(EARLY)
    answers = Answers(connection)
    assert answers.error() == (404, "not_found")
    connection.sendall(b"zz\r\n")
    assert answers.rest() == b""
