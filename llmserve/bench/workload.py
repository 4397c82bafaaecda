"""What is sent: prompts of roughly a given length, their arrival times and request bodies."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

import orjson

from llmserve.bench.answer import Timed, TimedAnswer
from llmserve.bench.target import Endpoint

FREQUENT: Final = """
the of and to in that it was for on are with as his they be at one have this from or had
by hot but some what there we can out other were all your when up use word how said an
each she which do their time if will way about many then them would write like so these
her long make thing see him two has look more day could go come did my sound no most
number who over know water than call first people may down side been now find any new
work part take get place
"""
WORDS: Final = tuple(FREQUENT.split())
"""Most tokenizers have one token for each of these, with its space."""
FIRST_TOKEN_ID: Final = 100
"""In most vocabularies, special tokens have lower ids."""

A_co = TypeVar("A_co", bound=Timed, covariant=True)


class Requests(Protocol[A_co]):
    """What a load sends."""

    @property
    def path(self) -> str:
        """The route's path."""

    @property
    def rate(self) -> float | None:
        """Requests per second as a Poisson process; `None`: each ends before the next."""

    def bodies(self) -> Iterator[bytes]:
        """Request bodies without end; the same seed gives the same ones."""

    def arrivals(self) -> Iterator[float]:
        """When requests are sent, in seconds from the start; needs a rate."""

    def answer(self, began_at: float) -> A_co:
        """An answer to fill, for a request that is sent now."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts whose answers are streamed; lengths are in tokens.

    Attributes:
        spread: lengths vary by at most this share, uniformly.
        shared_tokens: length of the beginning that all prompts share.
        words_per_token: how many words make a token of this server's tokenizer.
        token_ids: prompts are random token ids below this number, of exact length; `None`: prompts
            are words.
        rate: requests per second as a Poisson process; `None`: each ends before the next.
    """

    model: str
    input_tokens: int = 128
    output_tokens: int = 64
    spread: float = 0.0
    shared_tokens: int = 0
    words_per_token: float = 1.0
    token_ids: int | None = None
    rate: float | None = None
    endpoint: Endpoint = "completions"
    ignores_eos: bool = True
    seed: int = 0

    def bodies(self) -> Iterator[bytes]:
        numbers = random.Random(self.seed)  # noqa: S311  # words, not secrets
        per_token = self.words_per_token if self.token_ids is None else 1.0
        shared = self._drawn(round(self.shared_tokens * per_token), numbers)
        while True:
            length = max(1, round(self._varied(self.input_tokens, numbers) * per_token))
            own = self._drawn(length - len(shared), numbers)
            prompt = [*shared, *own] if self.token_ids is not None else " ".join([*shared, *own])
            output_tokens = max(1, self._varied(self.output_tokens, numbers))
            yield orjson.dumps(self._body(prompt, output_tokens))

    def arrivals(self) -> Iterator[float]:
        return poisson(self.rate, self.seed)

    def answer(self, began_at: float) -> TimedAnswer:
        return TimedAnswer(began_at)

    def calibrated(self, prompt_tokens: int) -> Workload:
        """The same workload, calibrated by the number of tokens that one of its prompts had."""
        factor = self.words_per_token * self.input_tokens / max(1, prompt_tokens)
        return replace(self, words_per_token=factor)

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.endpoint == "chat" else "/v1/completions"

    def _drawn(self, count: int, numbers: random.Random) -> list[Any]:
        return drawn(count, self.token_ids, numbers)

    def _varied(self, tokens: int, numbers: random.Random) -> int:
        return round(tokens * (1 + numbers.uniform(-self.spread, self.spread)))

    def _body(self, prompt: str | list[int], max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.ignores_eos:
            body["ignore_eos"] = True
        if self.endpoint == "chat":
            return body | {"messages": [{"role": "user", "content": prompt}]}
        return body | {"prompt": prompt}


def drawn(count: int, token_ids: int | None, numbers: random.Random) -> list[Any]:
    """So many words, or token ids below a number."""
    if token_ids is None:
        return [numbers.choice(WORDS) for _ in range(count)]
    return [numbers.randrange(FIRST_TOKEN_ID, token_ids) for _ in range(count)]


def poisson(rate: float | None, seed: int) -> Iterator[float]:
    """Seconds from the start at which something happens so often a second."""
    assert rate is not None, "a closed loop has no arrivals"
    numbers = random.Random(seed + 1)  # noqa: S311
    now = 0.0
    while True:
        now += numbers.expovariate(rate)
        yield now
