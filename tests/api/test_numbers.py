"""Bodies of numbers: whole, in order, and in pieces where they are many."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import Iterator
from typing import Any

from bounded import run
from fake_encoding import FakeEncoding, vector
from fastapi.testclient import TestClient

from llmserve.api.numbers import INLINE, PIECE_BYTES, array, numbers_response, separated
from llmserve.domain import EncodingAnswer


async def sent_by(response: Any) -> list[Any]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError

    await response({"type": "http"}, receive, send)
    return messages


def test_a_few_are_written_at_once_and_many_in_a_thread() -> None:
    threads: list[threading.Thread] = []

    def written() -> Iterator[bytes]:
        threads.append(threading.current_thread())
        yield b"[]"

    async def test() -> None:
        for count in (INLINE, INLINE + 1):
            start, body = await sent_by(await numbers_response(written(), count))
            assert (body["body"], body["more_body"]) == (b"[]", False)
            assert (b"content-length", b"2") in start["headers"]

    run(test)
    first, second = threads
    assert (first, second is threading.main_thread()) == (threading.main_thread(), False)


def test_many_go_out_in_pieces_and_nobody_else_waits_long() -> None:
    numbers = vector([i / 7 for i in range(1024)])

    async def test() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.create_task(tick())
        body = separated(array(numbers) for _ in range(512))
        response = await numbers_response(body, 512 * 1024)
        ticking.cancel()
        assert ticks > 10, "the event loop went on meanwhile"
        _, *pieces = await sent_by(response)
        assert len(pieces) > 10
        assert all(len(one["body"]) < 2 * PIECE_BYTES for one in pieces)
        assert [one["more_body"] for one in pieces] == [True] * (len(pieces) - 1) + [False]
        told = json.loads(b"[" + b"".join(one["body"] for one in pieces) + b"]")
        assert len(told) == 512
        assert struct.pack("1024f", *told[-1]) == bytes(numbers)

    run(test)


def test_they_are_not_compressed(client: TestClient, encoding: FakeEncoding) -> None:
    encoding.answer = EncodingAnswer("fake", (vector([0.1] * 4000),) * 8, (1,) * 8)
    headers = {"Accept-Encoding": "gzip"}
    answer = client.post("/v1/embeddings", json={"input": ["a"] * 8}, headers=headers)
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-type"].startswith("application/json")
    assert len(answer.content) == int(answer.headers["content-length"]) > 100_000
    assert len(answer.json()["data"]) == 8
