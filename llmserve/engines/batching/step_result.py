"""What a step returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmserve.engines.batching.sampled_token import SampledToken
from llmserve.engines.scores import Scores


@dataclass(frozen=True, slots=True)
class StepResult:
    """Attributes:
    tokens: the next token of each sampled slice, in the plan's order.
    scores: those of each slice with prompt tokens to score, in the plan's order.
    """

    tokens: list[SampledToken]
    scores: list[Scores] = field(default_factory=list)
