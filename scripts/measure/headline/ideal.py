"""A server that only waits: what the client and the kernel cost when the server costs nothing.

`python -m measure.headline.ideal PORT SECONDS`
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

import uvloop

BODY = json.dumps({"result": "a", "usage": {"completion_tokens": 1}}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(BODY), BODY)
BACKLOG = 2048


async def serve(port: int, seconds: float) -> None:
    """Answer everything after so many seconds, for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(seconds)
            writer.write(ANSWER)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=BACKLOG)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
