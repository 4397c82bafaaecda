"""How far the log probabilities of one prompt's tokens are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from llmserve.engines.scores import Scores
from llmserve.engines.task import TokenTask


@dataclass(slots=True, eq=False)
class Scoring:
    """The logits of position i score token i + 1, so the prompt's last position scores nothing.
    Owned by the step loop's thread.

    Attributes:
        num_top: how many of the likeliest tokens are wanted in each place.
        num_positions: the prompt's tokens, without its last one.
        num_scored: positions, from the first on, that need no logits any more: not even if the
            sequence is preempted and computed again.
        found: what earlier prompts left behind and nobody was told yet.
        unkept: of tokens whose block is not full of scored tokens yet.
    """

    num_top: int
    num_positions: int
    num_scored: int = 0
    found: list[Scores] = field(default_factory=list)
    unkept: Scores | None = None

    @classmethod
    def of(cls, task: TokenTask) -> Self | None:
        """`None` if nobody wants them."""
        num_top = task.sampling.prompt_logprobs
        return None if num_top is None else cls(num_top, len(task.prompt_ids) - 1)

    @property
    def is_over(self) -> bool:
        """Whether every token is scored."""
        return self.num_scored >= self.num_positions

    def wanted(self, start: int, end: int) -> range:
        """The positions of a slice whose logits score a token."""
        return range(max(start, self.num_scored), min(end, self.num_positions))

    def longest(self, start: int, most: int) -> int | None:
        """How many tokens a slice from `start` may have if it may score `most` of them; `None` if
        the rest of the prompt fits."""
        first = max(start, self.num_scored)
        return None if self.num_positions - first <= most else first + most - start

    def take_found(self) -> list[Scores]:
        """What was found, once."""
        found, self.found = self.found, []
        return found
