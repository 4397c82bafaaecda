"""A box and a model as they were measured: what a step costs, and what fits."""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from llmserve.engines.batching.schedule.plan import StepPlan

PROFILES: Final = Path(__file__).with_name("profiles.toml")
Point = tuple[float, float]
Count = Annotated[int, Field(ge=1)]


class Profile(BaseModel):
    """One table of profiles.toml.

    Attributes:
        source: where its figures were measured.
        blocks: of the KV cache, 16 tokens each.
        decode: steps without prompts: rows, tokens of context of each, milliseconds.
        beside: how many rows, of how many tokens, decoded in the steps of `prefill`.
        prefill: steps with a prompt's tokens: how many, milliseconds.
        least_prompt_tokens: what the pacer gives a prompt in any step.
        replayed_tokens: steps with so many prompt tokens are replayed from CUDA graphs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    blocks: Count
    max_running: Count
    max_tokens_per_step: Count
    least_prompt_tokens: Count
    replayed_tokens: int = 0
    decode: Annotated[list[tuple[int, int, float]], Field(min_length=1)]
    beside: tuple[int, int]
    prefill: Annotated[list[tuple[int, float]], Field(min_length=1)]


def load_profiles(path: Path = PROFILES) -> dict[str, Profile]:
    """All of a file, by name."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Profile.model_validate(table) for name, table in tables.items()}


class StepCosts:
    """Seconds of a step, straight lines between what was measured: a part that goes by the number
    of rows, one for each token of context that is read, one that goes by the prompts' tokens."""

    def __init__(self, profile: Profile) -> None:
        decode = sorted((rows, context, ms / 1e3) for rows, context, ms in profile.decode)
        self.context_seconds = _slope_of_context(decode)
        shortest: dict[int, float] = {}
        for rows, context, seconds in decode:
            shortest.setdefault(rows, seconds - rows * context * self.context_seconds)
        self._rows = list(shortest.items())
        rows, context = profile.beside
        without = self.seconds(rows, 0, rows * context)
        added = [(tokens, ms / 1e3 - without) for tokens, ms in sorted(profile.prefill)]
        self._prefill: list[Point] = [(0, 0.0), *added]

    def of(self, plan: StepPlan, grain: int) -> float:
        """Seconds for one step as planned, each token of a context being `grain` of them."""
        slices = plan.slices
        rows = sum(1 for part in slices if part.length == 1)
        context = sum(part.start for part in slices) * grain
        return self.seconds(rows, sum(part.length for part in slices) - rows, context)

    def seconds(self, rows: int, prompt_tokens: int, context: int) -> float:
        """For so many decoding rows and prompt tokens, and tokens of context for all together."""
        added = _between(self._prefill, prompt_tokens) if prompt_tokens else 0.0
        at_least = max(rows, self._rows[0][0])  # the weights are read in any step
        return _between(self._rows, at_least) + context * self.context_seconds + added


def _slope_of_context(decode: Sequence[tuple[int, int, float]]) -> float:
    """Of the most rows that were measured with two lengths of context; 0 if none were."""
    slope = 0.0
    for (rows, short, quick), (others, long, slow) in pairwise(decode):
        if rows == others:
            slope = (slow - quick) / (rows * (long - short))
    return slope


def _between(points: Sequence[tuple[float, float]], x: float) -> float:
    """By the line through the two points nearest to x."""
    if len(points) == 1:
        return points[0][1]
    index = min(max(bisect_left(points, (x,)), 1), len(points) - 1)
    (left, low), (right, high) = points[index - 1], points[index]
    return low + (high - low) * (x - left) / (right - left)
