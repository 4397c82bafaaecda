"""The open-loop client: sends each request when it is due, however many are still open.

HTTP/1.1 over asyncio streams, one connection per request on both sides: Gunicorn's synchronous
workers close after every answer, so keeping connections would favour llmserve.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import uvloop

from measure.headline.outcome import Outcome

LEAD_SECONDS = 0.2
"""Between the start and the first arrival's zero, for the loop to get going."""
MAX_HEAD_BYTES = 2**16


class Refusal(Exception):
    """The server answered, but not with what was asked for; the text says what it was."""


def offer(
    port: int, body: bytes, num_tokens: int, arrivals: Sequence[float], timeout_seconds: float
) -> list[Outcome]:
    """POST the body to /generate on loopback at each arrival; one outcome each, in their order.

    An answer is right when its usage counts `num_tokens`. One that has not come `timeout_seconds`
    after its arrival was due is an error.
    """
    return uvloop.run(_offer(port, body, num_tokens, arrivals, timeout_seconds))


async def _offer(
    port: int, body: bytes, num_tokens: int, arrivals: Sequence[float], timeout_seconds: float
) -> list[Outcome]:
    loop = asyncio.get_running_loop()
    message = _message(port, body)
    start = loop.time() + LEAD_SECONDS

    async def one(due: float) -> Outcome:
        sent, error = loop.time() - start, None
        try:
            async with asyncio.timeout_at(start + due + timeout_seconds):
                await _exchange(port, message, num_tokens)
        except TimeoutError:
            error = "timeout"
        except ConnectionRefusedError:
            error = "refused"
        except (OSError, asyncio.IncompleteReadError):
            error = "cut off"
        except Refusal as refusal:
            error = str(refusal)
        return Outcome(due, sent, loop.time() - start, error)

    tasks = []
    for due in arrivals:
        delay = start + due - loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(loop.create_task(one(due)))
    return list(await asyncio.gather(*tasks))


def _message(port: int, body: bytes) -> bytes:
    head = (
        f"POST /generate HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def _exchange(port: int, message: bytes, num_tokens: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MAX_HEAD_BYTES)
    try:
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        _check_status(head)
        _check_answer(await reader.readexactly(_content_length(head)), num_tokens)
    except asyncio.LimitOverrunError:
        raise Refusal("endless head") from None
    finally:
        writer.close()


def _check_status(head: str) -> None:
    protocol, _, rest = head.partition(" ")
    if not protocol.startswith("HTTP/1."):
        raise Refusal("not HTTP")
    if (status := rest[:3]) != "200":
        raise Refusal(f"status {status}")


def _content_length(head: str) -> int:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length" and value.strip().isdecimal():
            return int(value)
    raise Refusal("no content-length")


def _check_answer(body: bytes, num_tokens: int) -> None:
    try:
        answer = json.loads(body)
        is_right = bool(answer["result"]) and answer["usage"]["completion_tokens"] == num_tokens
    except (ValueError, KeyError, TypeError):
        is_right = False
    if not is_right:
        raise Refusal("wrong answer")
