"""scripts/bench-road: a client that does not take errors for answers, then a smoke run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from bounded import run
from measure.road.__main__ import main
from measure.road.client import Call, Refused, post

OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def answering(pieces: Sequence[bytes]) -> AsyncIterator[str]:
    """A server that says this to every request, one piece after the other."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if pieces[-1] == b"":
                break
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("pieces", "chunked", "told"),
    [
        ([b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", b""], False, "busy"),
        ([OK + b"\r\n", b"3\r\nabc", b""], True, "broke off"),
    ],
    ids=["refused", "cut"],
)
def test_what_is_no_answer_is_told(pieces: Sequence[bytes], chunked: bool, told: str) -> None:
    async def test() -> None:
        async with answering(pieces) as url:
            with pytest.raises(ExceptionGroup) as caught:
                await post(url, Call("/", {}, chunked=chunked), 1, 1)
            assert caught.group_contains(Refused, match=told)

    run(test)


def test_answers_are_read_to_their_end_however_they_come() -> None:
    async def test() -> None:
        async with answering([OK + b"content-length: 5\r\n\r\nhe", b"llo"]) as url:
            await post(url, Call("/", {}), 6, 2)
        stream = [OK + b"\r\n", b"2\r\nab\r", b"\n0\r\n", b"\r\n"]
        async with answering(stream) as url:
            await post(url, Call("/", {}, chunked=True), 6, 2)

    run(test)


@pytest.mark.slow
def test_a_smoke_run_measures_requests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "embedding"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    name, loop, everything = (cell.strip() for cell in line.strip("|").split("|"))
    assert name == "request, embedding"
    assert 0 < float(loop.replace(",", "")) <= float(everything.replace(",", ""))
