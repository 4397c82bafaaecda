"""Bodies that are mostly numbers. Those of many are written in a thread, and go out in pieces:
2,048 embeddings are 25 MB of digits, and others' streams must not wait for them."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Final

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from llmserve.api.edge.request_context import AS_IT_IS

INLINE: Final = 2**14
"""Of so many numbers, thread switches would cost more than what they save: 1 ms."""
PIECE_BYTES: Final = 2**17


class Numbers(Response):
    """A body in pieces, of which each goes out when the client has room for it. It is not
    compressed, which would take longer than to send the digits."""

    media_type = "application/json"

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        length = sum(len(piece) for piece in pieces)
        super().__init__(headers={"content-length": str(length), "content-encoding": AS_IT_IS})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        last = len(self._pieces) - 1
        for i, piece in enumerate(self._pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": i < last})


async def numbers_response(written: Iterable[bytes], count: int) -> Response:
    """A body of these parts, which are made while they are read; `count` is how many numbers it
    has."""
    if count <= INLINE:
        return Numbers([b"".join(written)])
    return Numbers(await asyncio.to_thread(list, _in_pieces(written)))


def separated(written: Iterable[bytes]) -> Iterator[bytes]:
    """The elements of an array, without its brackets."""
    comma = b""
    for element in written:
        yield comma
        yield element
        comma = b","


def array(vector: memoryview) -> bytes:
    """The shortest digits that give the same float32 again."""
    import numpy as np  # the model that made it has imported it

    floats = np.frombuffer(vector, dtype=np.float32)
    return orjson.dumps(floats, option=orjson.OPT_SERIALIZE_NUMPY)


def base64(vector: memoryview) -> bytes:
    """A JSON text of float32 numbers, the least significant byte first."""
    import numpy as np

    floats = np.frombuffer(vector, dtype=np.float32).astype("<f4", copy=False)
    return b'"' + b64encode(floats.data) + b'"'


def _in_pieces(written: Iterable[bytes]) -> Iterator[bytes]:
    kept: list[bytes] = []
    size = 0
    for part in written:
        kept.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(kept)
            kept, size = [], 0
            # The event loop gets the GIL within 1 ms; it would ask for it for 5 ms, each time.
            time.sleep(0)
    yield b"".join(kept)
