"""Many clients at once, each of which says how its requests ended."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

BODY = {"prompt": "Once upon a time", "ignore_eos": True, "stream": True}


@dataclass
class Outcome:
    """One request. `begun_at` is a monotonic reading."""

    begun_at: float
    status: int | None = None
    error: str | None = None
    terminals: list[str] = field(default_factory=list)
    tokens: int = 0
    last: dict[str, object] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """A whole answer with its one terminal event."""
        return self.status == 200 and self.error is None and self.terminals == ["done"]

    @property
    def is_told(self) -> bool:
        """The client knows how it ended: refused, or exactly one terminal event."""
        if self.status is None:
            return False
        return self.status != 200 or (self.error is None and len(self.terminals) == 1)


class Crowd:
    """Clients that ask again and again until `stop`. Run by the test's event loop.

    `keeps_connections=False` opens a connection per request. Each client waits `pause_seconds`
    after an answer: without, a crowd takes what processor time there is.
    """

    def __init__(
        self,
        url: str,
        size: int,
        *,
        keeps_connections: bool = False,
        pause_seconds: float = 0.0,
        headers: dict[str, str] | None = None,
        **fields: object,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._url = url + "/generate"
        self._size = size
        self._headers = (headers or {}) | ({} if keeps_connections else {"Connection": "close"})
        self._body = BODY | fields
        self._pause_seconds = pause_seconds
        self._is_stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        self._client = httpx.AsyncClient(
            timeout=60, limits=httpx.Limits(max_connections=None), headers=self._headers
        )
        self._tasks = [asyncio.create_task(self._ask_again()) for _ in range(self._size)]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()
        await self._client.aclose()

    async def stop(self) -> Sequence[Outcome]:
        """Let everyone finish what they began."""
        self._is_stopped = True
        await asyncio.gather(*self._tasks)
        return self.outcomes

    async def until(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many requests are over."""
        async with asyncio.timeout(seconds):
            while sum(o.status is not None or o.error is not None for o in self.outcomes) < count:
                await asyncio.sleep(0.01)

    async def until_streaming(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many requests get their tokens."""
        async with asyncio.timeout(seconds):
            while sum(o.tokens > 0 and not o.terminals for o in self.outcomes) < count:
                await asyncio.sleep(0.005)

    async def _ask_again(self) -> None:
        while not self._is_stopped:
            outcome = Outcome(time.monotonic())
            self.outcomes.append(outcome)
            try:
                await self._ask(outcome)
            except httpx.TransportError as error:
                outcome.error = type(error).__name__
                if isinstance(error, httpx.ConnectError):
                    return  # nobody is there any more
            await asyncio.sleep(self._pause_seconds)

    async def _ask(self, outcome: Outcome) -> None:
        async with self._client.stream("POST", self._url, json=self._body) as answer:
            outcome.status = answer.status_code
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    outcome.terminals.append(line.removeprefix("event: "))
                elif line.startswith('data: {"token"'):
                    outcome.tokens += 1
                elif line.startswith("data: "):
                    outcome.last = json.loads(line.removeprefix("data: "))
