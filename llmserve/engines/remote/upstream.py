"""One upstream: whether it gets requests, how many it has, what it has cached."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger

from llmserve.domain import UpstreamInfo, UpstreamState
from llmserve.engines.remote.breaker import Breaker
from llmserve.engines.remote.prefix_memory import PrefixMemory
from llmserve.engines.remote.task import RemoteTask
from llmserve.engines.remote.transport import Served, Transport, Unwell

NEWEST_SHARE: Final = 0.2
"""Of the last answer in the mean of how long answers take to begin."""
LOOKS_BEFORE_DOWN: Final = 2
"""Health checks that must fail in a row: one that is late means a busy box."""
NOT_ASKED: Final = "it has not been asked yet"


class Upstream:
    """Owned by the event loop.

    Attributes:
        is_drained: an operator wants that it gets no new requests.
        prefixes: what it probably has cached.
    """

    def __init__(
        self, url: str, transport: Transport, clock: Callable[[], float], *, is_drained: bool
    ) -> None:
        self.url = url
        self.transport = transport
        self.is_drained = is_drained
        self.prefixes = PrefixMemory()
        self.breaker = Breaker(clock)
        self._clock = clock
        self._running = 0
        self._first_token_seconds: float | None = None
        self._served: Served | None = None
        self._is_draining_itself = False
        self._failed_looks = LOOKS_BEFORE_DOWN
        self._problem: str | None = NOT_ASKED

    @property
    def running(self) -> int:
        """Requests that it answers now."""
        return self._running

    @property
    def first_token_seconds(self) -> float | None:
        """About how long its answers take to begin."""
        return self._first_token_seconds

    @property
    def served(self) -> Served | None:
        """What it told of itself, `None` before it did."""
        return self._served

    @property
    def state(self) -> UpstreamState:
        """Whether it gets requests, and why not."""
        if self.is_drained or self._is_draining_itself:
            return UpstreamState.DRAINING
        if self._served is None or self._failed_looks >= LOOKS_BEFORE_DOWN:
            return UpstreamState.DOWN
        if not self._served.has_model:
            return UpstreamState.WITHOUT
        return UpstreamState.UP if self.breaker.is_closed else UpstreamState.OPEN

    @property
    def is_available(self) -> bool:
        """Whether it may get a request now; one on trial, where its breaker is half open."""
        is_half_open = self.state is UpstreamState.OPEN and not self.breaker.is_open
        return self.state is UpstreamState.UP or is_half_open

    @property
    def may_have_come_back(self) -> bool:
        """Whether it is worth a try where no other is left: nobody looked since it went down."""
        is_known = self._served is not None and self._served.has_model
        return is_known and self.state is UpstreamState.DOWN and not self.breaker.is_open

    @property
    def info(self) -> UpstreamInfo:
        """It, at this moment."""
        state = self.state
        return UpstreamInfo(
            url=self.url,
            state=state,
            server="" if self._served is None else self._served.kind.value,
            running=self._running,
            first_token_seconds=self._first_token_seconds,
            problem=None if state is UpstreamState.UP else self._why(state),
        )

    def write(self, task: RemoteTask) -> Any:
        """The task's request in its language.

        Raises:
            InvalidRequest: it cannot be told one of the fields.
        """
        language = self.transport.language
        if language not in task.written:
            task.written[language] = self.transport.write(task.request)
        return task.written[language]

    async def look(self) -> None:
        """Ask how it is; what it is, too, where that may have changed."""
        before = self.state
        try:
            if self._served is None or before in (UpstreamState.DOWN, UpstreamState.WITHOUT):
                self._served = await self.transport.describe()
            await self.transport.check()
        except Unwell as unwell:
            self._is_draining_itself = unwell.is_draining
            if not unwell.is_draining:
                self._failed_looks += 1
            self._problem = unwell.problem
        else:
            self._is_draining_itself, self._failed_looks, self._problem = False, 0, None
        self._log(before)

    def went_away(self, problem: str) -> None:
        """Nothing listens there: it gets no requests until a look finds it again."""
        before = self.state
        self._failed_looks, self._problem = LOOKS_BEFORE_DOWN, problem
        self.prefixes.clear()
        self._log(before)

    def drains(self) -> None:
        """It says that it takes nothing more."""
        before = self.state
        self._is_draining_itself, self._problem = True, "it is shutting down"
        self._log(before)

    @contextlib.contextmanager
    def visit(self, task: RemoteTask) -> Iterator[Visit]:
        """It answers a request meanwhile."""
        before = self.state
        visit = Visit(self, self.breaker.begin(), self._clock())
        self.prefixes.add(task.digest)
        self._running += 1
        try:
            yield visit
        finally:
            self._running -= 1
            visit.end()
            self._log(before)

    def took(self, seconds: float) -> None:
        """So long until an answer began."""
        mean = self._first_token_seconds
        self._first_token_seconds = (
            seconds if mean is None else mean + NEWEST_SHARE * (seconds - mean)
        )

    def _why(self, state: UpstreamState) -> str:
        match state:
            case UpstreamState.DRAINING if self.is_drained:
                return "an operator drains it"
            case UpstreamState.OPEN:
                left = self.breaker.retry_after_seconds
                return f"too much failed there; it is tried again in {left:.0f} s"
            case UpstreamState.WITHOUT:
                return "it answers and does not serve the model"
        return self._problem or "it is not known"

    def _log(self, before: UpstreamState) -> None:
        now = self.state
        if now is before:
            return
        if now is UpstreamState.UP:
            logger.info("upstream {} is up", self.url)
        else:
            logger.warning("upstream {} is {}: {}", self.url, now.value, self._why(now))


@dataclass(slots=True)
class Visit:
    """One request at an upstream, and what it says of it."""

    _upstream: Upstream
    _is_trial: bool
    _begun_at: float
    _is_judged: bool = False

    def began(self, now: float) -> float:
        """Something of the answer came; returns after how many seconds."""
        seconds = now - self._begun_at
        self._upstream.took(seconds)
        self._upstream.breaker.succeeded(is_trial=self._is_trial)
        self._is_judged = True
        return seconds

    def failed(self) -> None:
        """By the upstream's fault it came to nothing, or to half an answer."""
        self._upstream.breaker.failed(is_trial=self._is_trial and not self._is_judged)
        self._is_judged = True

    def end(self) -> None:
        """It is over, however it ended."""
        if not self._is_judged:
            self._upstream.breaker.abandoned(is_trial=self._is_trial)
