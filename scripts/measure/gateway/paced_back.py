"""A back that computes nothing: it says a token to each stream at a steady pace, as a box with a
GPU does that is not this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
from collections.abc import Iterator
from typing import Any, Final

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
MODELS: Final = {"data": [{"id": "paced", "object": "model", "owned_by": "vllm"}]}


@contextlib.contextmanager
def paced_back(pace_seconds: float) -> Iterator[str]:
    """Its URL; a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_run, args=(pace_seconds, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _run(pace_seconds: float, port: Any) -> None:
    asyncio.run(_serve(pace_seconds, port))


async def _serve(pace_seconds: float, port: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await _answer(reader, writer, pace_seconds)

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    port.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace_seconds: float
) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"post"):
        body = json.dumps(MODELS).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        return
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    asked = json.loads(await reader.readexactly(length))
    writer.write(HEAD)
    count = asked.get("max_tokens") or 16
    for _ in range(count):
        writer.write(_chunk({"choices": [{"index": 0, "text": " word", "finish_reason": None}]}))
        await asyncio.sleep(pace_seconds)
    last = {"index": 0, "text": "", "finish_reason": "length"}
    writer.write(_chunk({"choices": [last]}))
    usage = {"prompt_tokens": 32, "completion_tokens": count}
    writer.write(_chunk({"choices": [], "usage": usage}))
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await writer.drain()


def _chunk(told: dict[str, Any]) -> bytes:
    event = b"data: %s\n\n" % json.dumps(told).encode()
    return b"%x\r\n%s\r\n" % (len(event), event)
