"""Events from any thread to one reader on the event loop. Knows no tokens and no engine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from llmserve.domain import Delta, Event, Terminal


class Mailbox:
    """An unshared stream of events that ends with exactly one terminal event.

    Any thread posts; one coroutine on `loop` reads. The first terminal event closes the box:
    what is posted later is dropped. Deltas that wait for a slow reader are handed over as one
    larger delta, so what is held is bounded by the answer itself, and the loop is woken once
    however many events were posted since the reader last looked.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._is_wake_due = False
        self._arrived = asyncio.Event()
        self.terminal: Terminal | None = None

    def post(self, event: Event, wake: Callable[[Callable[[], None]], None] | None = None) -> bool:
        """Add an event; `False` if the stream had already ended.

        `wake` takes what has to run on the event loop, in place of waking it at once.
        """
        with self._lock:
            if self.terminal is not None:
                return False
            if isinstance(event, Terminal):
                self.terminal = event
            self._events.append(event)
            must_wake = not self._is_wake_due
            self._is_wake_due = True
        if must_wake and wake is not None:
            wake(self._arrived.set)
        elif must_wake:
            # A closed loop has no reader left to wake.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._arrived.set)
        return True

    async def next(self) -> Event:
        """The next event; waits for it. After the terminal event, do not ask again."""
        while True:
            self._arrived.clear()
            with self._lock:
                if self._events:
                    return self._take()
                self._is_wake_due = False
            await self._arrived.wait()

    def _take(self) -> Event:
        first = self._events[0]
        if not isinstance(first, Delta):
            return self._events.popleft()
        deltas = list(_that_merge(self._events))
        for _ in deltas:
            self._events.popleft()
        if len(deltas) == 1:
            return first
        return Delta(
            text="".join(delta.text for delta in deltas),
            token_ids=tuple(i for delta in deltas for i in delta.token_ids),
            logprobs=tuple(token for delta in deltas for token in delta.logprobs),
            reasoning="".join(delta.reasoning for delta in deltas),
            calls=tuple(piece for delta in deltas for piece in delta.calls),
        )


def _that_merge(events: Iterable[Event]) -> Iterator[Delta]:
    """The deltas at the beginning, as long as what they say stays in the order of a delta's parts:
    reasoning, text, calls."""
    reached = 0
    for event in events:
        if not isinstance(event, Delta):
            return
        begins = 0 if event.reasoning else 1 if event.text else 2 if event.calls else reached
        if begins < reached:
            return
        reached = 2 if event.calls else 1 if event.text else reached
        yield event
