"""Embeddings as a load: texts of many lengths, and what comes back for them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from llmserve.bench.answer import Timed
from llmserve.bench.workload import drawn, poisson

SHORTEST: Final = 8
LONGEST: Final = 256


@dataclass(slots=True)
class TimedEmbeddings(Timed):
    """The embeddings of one request; done when there is one for each input.

    Attributes:
        inputs: how many were sent.
        tokens: of all inputs, from the server's usage; `None` if it sent none.
    """

    inputs: int = 1
    tokens: int | None = None
    _body: bytearray = field(default_factory=bytearray)

    def take(self, data: bytes, now: float) -> None:
        self._body += data

    def close(self) -> None:
        try:
            answer = orjson.loads(self._body)
        except orjson.JSONDecodeError:
            self.error = "not JSON"
            return
        self._body.clear()
        try:
            embeddings = [entry["embedding"] for entry in answer["data"]]
            usage = answer.get("usage")
            self.tokens = None if usage is None else int(usage["prompt_tokens"])
        except (AttributeError, KeyError, TypeError, ValueError):
            self.error = "not a list of embeddings"
            return
        self.is_done = len(embeddings) == self.inputs and all(embeddings)
        if not self.is_done:
            self.error = "not an embedding for each input"


@dataclass(frozen=True, slots=True)
class EmbeddingWorkload:
    """Inputs of any length between two bounds, in tokens, each as likely as another.

    Attributes:
        inputs: how many a request has.
        words_per_token: how many words make a token of this server's tokenizer.
        token_ids: inputs are random token ids below this number, of exact length; `None`: inputs
            are words.
        rate: requests per second as a Poisson process; `None`: each ends before the next.
    """

    model: str
    shortest: int = SHORTEST
    longest: int = LONGEST
    inputs: int = 1
    words_per_token: float = 1.0
    token_ids: int | None = None
    rate: float | None = None
    seed: int = 0

    def bodies(self) -> Iterator[bytes]:
        numbers = random.Random(self.seed)  # noqa: S311  # words, not secrets
        while True:
            inputs = [self._input(numbers) for _ in range(self.inputs)]
            yield orjson.dumps({"model": self.model, "input": inputs})

    def arrivals(self) -> Iterator[float]:
        return poisson(self.rate, self.seed)

    def answer(self, began_at: float) -> TimedEmbeddings:
        return TimedEmbeddings(began_at, inputs=self.inputs)

    def of_one_length(self) -> EmbeddingWorkload:
        """Other inputs, all of the longest length, to calibrate by."""
        return replace(self, shortest=self.longest, inputs=1, rate=None, seed=self.seed + 1_000_003)

    def calibrated(self, tokens: int) -> EmbeddingWorkload:
        """The same workload, calibrated by the number of tokens that a longest input had."""
        return replace(self, words_per_token=self.words_per_token * self.longest / max(1, tokens))

    @property
    def path(self) -> str:
        return "/v1/embeddings"

    def _input(self, numbers: random.Random) -> str | list[int]:
        length = numbers.randint(self.shortest, self.longest)
        per_token = self.words_per_token if self.token_ids is None else 1.0
        words: list[Any] = drawn(max(1, round(length * per_token)), self.token_ids, numbers)
        return words if self.token_ids is not None else " ".join(words)
