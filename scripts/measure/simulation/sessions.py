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
MOST_CONTEXT: Final = 16_384
"""A conversation that is longer ends."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Attributes:
    rate: requests per second that the users would send to a server that answers at once.
    seconds: how long conversations begin.
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
        """The first turn of each conversation, in the order of their times."""
        rng = random.Random(seed)
        popularity = [1.0 / rank for rank in range(1, self.system_prompts + 1)]
        sources = itertools.count(self.system_prompts)
        return [
            self._conversation(
                rng, at, rng.choices(range(self.system_prompts), popularity)[0], next(sources)
            )
            for at in self._arrivals(rng)
        ]

    def _arrivals(self, rng: random.Random) -> Iterator[float]:
        mean = self.turns / self.rate
        shape = BURSTINESS**-2 if self.is_bursty else 1.0
        at = rng.gammavariate(shape, mean / shape)
        while at < self.seconds:
            yield at
            at += rng.gammavariate(shape, mean / shape)

    def _conversation(self, rng: random.Random, at: float, system: int, source: int) -> Request:
        caller = f"key-{rng.randrange(self.keys)}"
        text = (Span(system, self.system_tokens), Span(source, 0))
        tokens = self.system_tokens
        first: Request | None = None
        last: Request | None = None
        while True:
            asked, answered = (
                _long_tailed(rng, self.message_tokens),
                _long_tailed(rng, self.answer_tokens),
            )
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


def _long_tailed(rng: random.Random, median: int) -> int:
    """Log-normal; a hundredth exceeds ten times the median, and none a hundred times."""
    sigma = math.log(10.0) / 2.326
    return min(100 * median, max(1, round(rng.lognormvariate(math.log(median), sigma))))
