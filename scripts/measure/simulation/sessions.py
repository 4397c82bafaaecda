"""Made-up users: conversations of several turns, many of which begin with the same system prompt.

Lengths have long tails (log-normal), conversations a geometric number of turns, and system prompts
a popularity that falls as 1/rank (Zipf), as published traces of chats have them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from measure.simulation.request import Request
from measure.simulation.text import Span, extended

BURSTINESS: Final = 3.0
"""Of bursty arrivals: the gaps' standard deviation over their mean. Of Poisson arrivals it is 1."""
EARLIER_TURNS: Final = 6.0
"""How many times the mean length of a conversation the first ones began before the start, so that
there are as many at the start as later."""
MOST_CONTEXT: Final = 16_384
"""A conversation that is longer ends."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Attributes:
    rate: requests per second that the users would send to a server that answers at once.
    seconds: until no more conversations begin.
    keys: how many keys they come with.
    turns: the mean number.
    system_prompts: how many there are, of `system_tokens` each.
    message_tokens, answer_tokens: medians; one in a hundred is longer than 10 times that.
    think_seconds: the mean time between an answer and the next message.
    """

    rate: float
    seconds: float
    is_bursty: bool = False
    keys: int = 100
    turns: float = 4.0
    system_prompts: int = 16
    system_tokens: int = 1024
    message_tokens: int = 64
    answer_tokens: int = 160
    think_seconds: float = 20.0

    def requests(self, seed: int) -> list[Request]:
        """The first turn of each conversation, of older ones the first that is not over."""
        rng = random.Random(seed)
        popularity = [1.0 / rank for rank in range(1, self.system_prompts + 1)]
        sources = itertools.count(self.system_prompts)
        found = (
            self._conversation(
                rng, at, rng.choices(range(self.system_prompts), popularity)[0], next(sources)
            )
            for at in self._arrivals(rng)
        )
        return [due for first in found if (due := _due(first)) is not None]

    def _arrivals(self, rng: random.Random) -> Iterator[float]:
        mean = self.turns / self.rate
        shape = BURSTINESS**-2 if self.is_bursty else 1.0
        at = -EARLIER_TURNS * self.turns * self.think_seconds
        while (at := at + rng.gammavariate(shape, mean / shape)) < self.seconds:
            yield at

    def _conversation(self, rng: random.Random, at: float, system: int, source: int) -> Request:
        caller = f"key-{rng.randrange(self.keys)}"
        text = (Span(system, self.system_tokens), Span(source, 0))
        tokens = self.system_tokens
        first: Request | None = None
        last: Request | None = None
        while True:
            asked = _long_tailed(rng, self.message_tokens)
            answered = _long_tailed(rng, self.answer_tokens)
            tokens += asked + answered
            if first is not None and tokens > MOST_CONTEXT:
                return first
            text = extended(text, asked)
            after = rng.expovariate(1.0 / self.think_seconds) if first else at
            request = Request(caller, after, text, answered)
            if last is None:
                first = request
            else:
                last.then = request
            last = request
            text = extended(text, answered)
            if rng.random() < 1.0 / self.turns:
                return first or request


def _due(first: Request) -> Request | None:
    """The conversation's first turn that is not over at the start, with its time from there."""
    turn: Request | None = first
    at = first.at
    while turn is not None and at < 0.0:
        turn = turn.then
        at += 0.0 if turn is None else turn.at
    if turn is not None:
        turn.at = at
    return turn


def _long_tailed(rng: random.Random, median: int) -> int:
    """Log-normal; a hundredth exceeds ten times the median, and none a hundred times."""
    sigma = math.log(10.0) / 2.326
    return min(100 * median, max(1, round(rng.lognormvariate(math.log(median), sigma))))
