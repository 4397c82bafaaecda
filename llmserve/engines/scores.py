"""Log probabilities of consecutive tokens of a prompt, packed: a prompt has thousands of them."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Self

from llmserve.domain import TokenLogprobs


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the model thought of each token, before it, and of the likeliest ones in its place.

    Attributes:
        num_top: how many of the likeliest there are for each token.
        token_ids: of each token, int32.
        logprobs: natural logarithms, float32.
        ranks: int32, 1 for the likeliest token.
        top_ids: `num_top` for each token, best first, int32.
        top_logprobs: of those, float32.
    """

    num_top: int
    token_ids: array[int]
    logprobs: array[float]
    ranks: array[int]
    top_ids: array[int]
    top_logprobs: array[float]

    def __len__(self) -> int:
        return len(self.token_ids)

    def __add__(self, later: Scores) -> Scores:
        """These and those of the next tokens, with the same `num_top`."""
        assert self.num_top == later.num_top, "what belongs together has as many of the likeliest"
        return Scores(
            self.num_top,
            self.token_ids + later.token_ids,
            self.logprobs + later.logprobs,
            self.ranks + later.ranks,
            self.top_ids + later.top_ids,
            self.top_logprobs + later.top_logprobs,
        )

    @property
    def num_bytes(self) -> int:
        """Of the numbers alone."""
        return len(self) * (12 + 8 * self.num_top)

    @property
    def are_numbers(self) -> bool:
        """Whether the model's logits were numbers."""
        return not any(map(math.isnan, self.logprobs))

    def part(self, start: int, stop: int) -> Self:
        """A copy of those of some tokens."""
        top = slice(start * self.num_top, stop * self.num_top)
        return type(self)(
            self.num_top,
            self.token_ids[start:stop],
            self.logprobs[start:stop],
            self.ranks[start:stop],
            self.top_ids[top],
            self.top_logprobs[top],
        )

    def tokens(self, num_top: int) -> tuple[TokenLogprobs, ...]:
        """As events contain them, with the best `num_top` at most."""
        count = min(num_top, self.num_top)
        return tuple(
            TokenLogprobs(token_id, logprob, self._top(place, count), rank)
            for place, (token_id, logprob, rank) in enumerate(
                zip(self.token_ids, self.logprobs, self.ranks, strict=True)
            )
        )

    def _top(self, place: int, count: int) -> tuple[tuple[int, float], ...]:
        best = slice(place * self.num_top, place * self.num_top + count)
        return tuple(zip(self.top_ids[best], self.top_logprobs[best], strict=True))
