"""Puts load on a server and collects the answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar

import orjson

from llmserve.address import authority
from llmserve.bench.answer import Timed
from llmserve.bench.connection import Connection
from llmserve.bench.target import Target
from llmserve.bench.workload import Requests, Workload
from llmserve.errors import ConfigurationError, ServerUnreachable

REFUSALS: Final = (400, 422)
PROBE_SEED: Final = 2_000_003
"""Added to a load's seed, for a prompt that the load does not contain."""

A = TypeVar("A", bound=Timed)


@dataclass(frozen=True, slots=True)
class Amount:
    """The size of a load: `requests` or `seconds`, whichever ends first, with `concurrency` at once
    in a closed loop. `timeout_seconds` is for one answer."""

    requests: int | None = None
    seconds: float | None = None
    concurrency: int = 1
    timeout_seconds: float = 600.0


@dataclass(slots=True)
class Collected(Generic[A]):
    """The answers so far, and when the run began and ended, by `time.perf_counter`."""

    answers: list[A] = field(default_factory=list)
    began_at: float = 0.0
    ended_at: float = 0.0


class Load(Generic[A]):
    """One run. `on_answer` is called with each answer."""

    def __init__(
        self,
        target: Target,
        workload: Requests[A],
        amount: Amount,
        on_answer: Callable[[A], None] = lambda answer: None,
    ) -> None:
        self._target = target
        self._workload = workload
        self._amount = amount
        self._on_answer = on_answer
        self._idle: list[Connection] = []
        self.collected: Collected[A] = Collected()

    async def run(self) -> Collected[A]:
        """Send requests until the amount is reached, and wait for the answers under way."""
        bodies: Iterator[bytes] = self._workload.bodies()
        if self._amount.requests is not None:
            bodies = itertools.islice(bodies, self._amount.requests)
        self.collected.began_at = time.perf_counter()
        try:
            if self._workload.rate is None:
                users = (self._user(bodies) for _ in range(self._amount.concurrency))
                await asyncio.gather(*users)
            else:
                await self._arrive(bodies)
        finally:
            self.collected.ended_at = time.perf_counter()
            for connection in self._idle:
                connection.close()
        return self.collected

    async def _user(self, bodies: Iterator[bytes]) -> None:
        """A closed loop: the next request follows the last answer."""
        for body in bodies:
            if self._is_over():
                return
            await self._ask(body)

    async def _arrive(self, bodies: Iterator[bytes]) -> None:
        """An open loop: requests come whether or not the server keeps up."""
        async with asyncio.TaskGroup() as asking:
            for body, at in zip(bodies, self._workload.arrivals(), strict=False):
                if self._amount.seconds is not None and at >= self._amount.seconds:
                    return
                await asyncio.sleep(self.collected.began_at + at - time.perf_counter())
                asking.create_task(self._ask(body))

    def _is_over(self) -> bool:
        seconds = self._amount.seconds
        return seconds is not None and time.perf_counter() - self.collected.began_at >= seconds

    async def _ask(self, body: bytes) -> None:
        answer = self._workload.answer(time.perf_counter())
        try:
            async with asyncio.timeout(self._amount.timeout_seconds):
                await self._exchange(body, answer)
        except TimeoutError:
            answer.error = "timeout"
        except OSError as error:
            answer.error = f"connect: {type(error).__name__}"
        answer.ended_at = time.perf_counter()
        self.collected.answers.append(answer)
        self._on_answer(answer)

    async def _exchange(self, body: bytes, answer: A) -> None:
        connection = self._idle.pop() if self._idle else None
        if connection is None or not connection.is_open:
            connection = await Connection.to(self._target)
        refusal = bytearray()

        def take(data: bytes, now: float) -> None:
            answer.take(data, now)
            if len(refusal) < 4096:  # enough for an error's message
                refusal.extend(data)

        request = self._target.request("POST", self._workload.path, body)
        try:
            response = await connection.exchange(request, take)
        except asyncio.CancelledError:
            connection.close()
            raise
        if connection.is_open:
            self._idle.append(connection)
        if response.status and response.status != 200:
            answer.error = f"status {response.status}{_code(bytes(refusal))}"
            return
        if response.is_whole:
            answer.close()
        if answer.error is None and not answer.is_done:
            answer.error = "cut off"


async def first_model(target: Target, capability: str | None = None) -> str:
    """The first model in /v1/models; of those that say they have a capability, if one does.

    Raises:
        ServerUnreachable: it cannot be connected to.
        ConfigurationError: the server does not list any.
    """
    status, body = await fetch(target, "GET", "/v1/models")
    unexpected = (orjson.JSONDecodeError, AttributeError, KeyError, IndexError, TypeError)
    with contextlib.suppress(*unexpected):
        if status == 200:
            models = orjson.loads(body)["data"]
            able = (m for m in models if capability in (m.get("capabilities") or ()))
            return str(next(able, models[0])["id"])
    raise ConfigurationError(f"/v1/models answered {status or 'nothing'}; name a --model")


async def takes_ignore_eos(target: Target, workload: Workload) -> bool:
    """Whether the server accepts `ignore_eos`; some refuse fields that OpenAI does not have.

    Asks for one token, with a prompt that is not in the load, as servers cache prompts.

    Raises:
        ServerUnreachable: it cannot be connected to.
        ConfigurationError: the server refuses the request without `ignore_eos`, too.
    """
    asked = replace(workload, seed=workload.seed + PROBE_SEED, output_tokens=1, spread=0.0)
    status, _ = await fetch(target, "POST", asked.path, next(asked.bodies()))
    if status not in REFUSALS:
        return True
    plain = replace(asked, ignores_eos=False)
    status, body = await fetch(target, "POST", plain.path, next(plain.bodies()))
    if status in REFUSALS:
        words = " ".join(body.decode(errors="replace").split())[:300]
        raise ConfigurationError(f"the server refuses the requests ({status}): {words}")
    return False


async def fetch(target: Target, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """One exchange that is not part of the load: status and body.

    Raises:
        ServerUnreachable: it cannot be connected to.
    """
    try:
        connection = await Connection.to(target)
    except OSError as error:
        raise ServerUnreachable(
            f"cannot reach {authority(target.host, target.port)} ({type(error).__name__})"
        ) from error
    parts: list[bytes] = []
    request = target.request(method, path, body)
    response = await connection.exchange(request, lambda data, now: parts.append(data))
    connection.close()
    return response.status, b"".join(parts)


def _code(body: bytes) -> str:
    with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        error = orjson.loads(body)["error"]
        return f" {error.get('code') or error.get('type')}"
    return ""
