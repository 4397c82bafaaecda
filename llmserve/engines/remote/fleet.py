"""The upstreams of one model: which of them gets a request, and who looks after them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from typing import Final

from llmserve.domain import UpstreamInfo
from llmserve.engines.remote.balancer import Balancer
from llmserve.engines.remote.task import RemoteTask
from llmserve.engines.remote.upstream import Upstream
from llmserve.errors import InvalidRequest, NotReady

JITTER: Final = 0.2
"""Of the time between two looks, so that the workers of a box do not look together."""
RETRY_SECONDS: Final = 2.0


class Upstreams:
    """Owned by the event loop."""

    def __init__(self, model: str, upstreams: Sequence[Upstream], look_seconds: float) -> None:
        self._model = model
        self._upstreams = tuple(upstreams)
        self._look_seconds = look_seconds
        self._balancer = Balancer()
        self._watches: list[asyncio.Task[None]] = []

    @property
    def infos(self) -> tuple[UpstreamInfo, ...]:
        """Each of them at this moment."""
        return tuple(upstream.info for upstream in self._upstreams)

    @property
    def all(self) -> Sequence[Upstream]:
        """In the order of the manifest."""
        return self._upstreams

    @property
    def available(self) -> list[Upstream]:
        """Those that may get a request now."""
        return [upstream for upstream in self._upstreams if upstream.is_available]

    @property
    def problems(self) -> list[str]:
        """Why others get no requests; without their addresses, as clients read this."""
        return [
            f"upstream {number} of {len(self._upstreams)} is {info.state.value}: {info.problem}"
            for number, info in enumerate(self.infos, 1)
            if info.problem is not None
        ]

    def check(self, task: RemoteTask) -> None:
        """Write a task's request for those that may get it.

        Raises:
            InvalidRequest: none of them can be told all of its fields.
        """
        error: InvalidRequest | None = None
        for upstream in self.available or self._upstreams:
            try:
                upstream.write(task)
            except InvalidRequest as refusal:
                error = error or refusal
            else:
                return
        if error is not None:
            raise error

    def choose(self, task: RemoteTask, tried: Collection[Upstream]) -> Upstream:
        """The best one for a task that was not tried yet.

        Raises:
            InvalidRequest: those that are left cannot be told one of its fields.
            NotReady: none is left.
        """
        left = [upstream for upstream in self.available if upstream not in tried]
        left = left or [u for u in self._upstreams if u.may_have_come_back and u not in tried]
        able, error = [], None
        for upstream in left:
            try:
                upstream.write(task)
            except InvalidRequest as refusal:
                error = refusal
            else:
                able.append(upstream)
        if able:
            return able[self._balancer.best(able, task.digest)]
        raise error or self._none_left()

    def watch(self) -> None:
        """Look at each of them every few seconds from now on."""
        self._watches = [
            asyncio.create_task(self._watch(upstream), name=f"watch-{upstream.url}")
            for upstream in self._upstreams
        ]

    async def look(self) -> None:
        """Look at all of them once."""
        await asyncio.gather(*(upstream.look() for upstream in self._upstreams))

    async def close(self) -> None:
        """Look no more."""
        watches, self._watches = self._watches, []
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        for upstream in self._upstreams:
            await upstream.transport.close()

    async def _watch(self, upstream: Upstream) -> None:
        while True:
            await asyncio.sleep(jittered(self._look_seconds))
            await upstream.look()

    def _none_left(self) -> NotReady:
        waits = [u.breaker.retry_after_seconds for u in self._upstreams if u.breaker.is_open]
        return NotReady(
            f"no server of model {self._model!r} takes requests now: {'; '.join(self.problems)}",
            retry_after_seconds=min(waits, default=RETRY_SECONDS) or RETRY_SECONDS,
        )


def jittered(seconds: float, randomness: Callable[[], float] = random.random) -> float:
    """About so many seconds."""
    return seconds * (1.0 - JITTER + 2.0 * JITTER * randomness())
