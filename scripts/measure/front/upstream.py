"""A box that computes nothing: every stream gets a token in each step, at a fixed pace.

`python -m measure.front.upstream` prints its port. It speaks as much of OpenAI's API as a front
asks of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import uvloop

MODEL: Final = "echo"
STEP_SECONDS: Final = 0.02
CHUNKED: Final = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Upstream:
    """Streams share their steps, as they do on a real box."""

    def __init__(self) -> None:
        self._step = asyncio.Event()

    async def steps(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(STEP_SECONDS)
            self._step.set()
            self._step = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_content_length(head))
                if head.startswith(b"POST"):
                    await self._stream(json.loads(body), writer)
                else:
                    writer.write(_whole({"data": [{"id": MODEL, "owned_by": "vllm"}]}))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _stream(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + CHUNKED)
        most = int(body["max_tokens"])
        for number in range(1, most + 1):
            await self._step.wait()
            writer.write(_chunk(event(" word", "length" if number == most else None)))
        usage = {"prompt_tokens": 16, "completion_tokens": most, "total_tokens": 16 + most}
        told = {"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": usage}
        writer.write(_chunk(_line(told)) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()


def event(text: str, finish_reason: str | None) -> bytes:
    """One token of a chat."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return _line(
        {
            "id": "x", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
            "choices": [choice],
        }
    )  # fmt: skip


def _line(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def _whole(value: dict[str, Any]) -> bytes:
    content = json.dumps(value).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return 0


async def _main() -> None:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await upstream.steps()


def main(argv: Sequence[str] | None = None) -> int:
    """Until it is ended."""
    uvloop.run(_main())
    return 0


if __name__ == "__main__":
    sys.exit(main())
