"""Requests that ask for an upgrade are read as those that do not, however they are cut."""

from __future__ import annotations

import itertools

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.workers.http_parser import RequestParser

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEA\r\n"
WISHES = {b"connection", b"upgrade", b"http2-settings"}
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"

Read = tuple[bytes, bytes, str, bool, tuple[tuple[bytes, bytes], ...], bytes]


class Recorder:
    """A connection that writes down what it was told."""

    def __init__(self) -> None:
        self.read: list[Read] = []
        self.parser = RequestParser(self)

    def on_message_begin(self) -> None:
        self.url, self.body = b"", b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.head = (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version(),
            self.parser.should_keep_alive(),
        )

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if not self.ignores_upgrade():
            kept = tuple(header for header in self.headers if header[0] not in WISHES)
            self.read.append((*self.head, kept, self.body))

    def ignores_upgrade(self) -> bool:
        return self.parser.should_upgrade() and (b"upgrade", b"websocket") not in self.headers


def request(body: bytes | None, chunk: int, *, asks: bool) -> bytes:
    head = b"GET /a?b HTTP/1.1\r\n" if body is None else b"POST /a?b HTTP/1.1\r\n"
    head += b"Host: x\r\nX-Empty:\r\n" + (UPGRADE if asks else b"")
    if body is None:
        return head + b"\r\n"
    if not chunk:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    pieces = [body[i : i + chunk] for i in range(0, len(body), chunk)] + [b""]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def read(data: bytes, cuts: list[int]) -> list[Read]:
    recorder = Recorder()
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for begin, end in itertools.pairwise(places):
        recorder.parser.feed_data(data[begin:end])
    return recorder.read


@given(
    requests=st.lists(
        st.tuples(st.none() | st.binary(max_size=60), st.integers(0, 20), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    cuts=st.lists(st.integers(0, 2000), max_size=20),
)
def test_who_asks_for_an_upgrade_is_read_like_who_does_not(
    requests: list[tuple[bytes | None, int, bool]], cuts: list[int]
) -> None:
    asking = b"".join(request(body, chunk, asks=asks) for body, chunk, asks in requests)
    plain = b"".join(request(body, chunk, asks=False) for body, chunk, _ in requests)
    assert read(asking, cuts) == read(plain, [])
    assert [one[-1] for one in read(asking, cuts)] == [body or b"" for body, _, _ in requests]


def test_a_websocket_is_left_to_the_server() -> None:
    recorder = Recorder()
    with pytest.raises(httptools.HttpParserUpgrade):
        recorder.parser.feed_data(b"GET /ws HTTP/1.1\r\nHost: x\r\n" + WEBSOCKET + b"\r\n")


@pytest.mark.parametrize(
    "broken",
    [b"Content-Length: 1\r\nContent-Length: 2\r\n", b"Content-Length: x\r\n", b"X : y\r\n"],
)
def test_what_is_no_http_stays_none(broken: bytes) -> None:
    recorder = Recorder()
    with pytest.raises(httptools.HttpParserError):
        recorder.parser.feed_data(b"POST / HTTP/1.1\r\nHost: x\r\n" + UPGRADE + broken + b"\r\nabc")
    assert recorder.read == []
