"""What a step scores of its prompts, and how much at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import torch

from llmserve.engines.batching.schedule.plan import Slice
from llmserve.engines.scores import Scores
from llmserve.engines.scoring import score_tokens

LOGIT_BYTES: Final = 128 * 2**20
"""Of logits in float32 that one step computes to score prompts. More rows would not be faster on a
CPU."""
LOGIT_BYTES_ON_GPU: Final = 256 * 2**20
"""There a step has a fixed cost, which few rows would not be worth."""


def most_scored(vocab: int, is_on_gpu: bool) -> int:
    """How many tokens a step may score."""
    num_bytes = LOGIT_BYTES_ON_GPU if is_on_gpu else LOGIT_BYTES
    return max(1, num_bytes // (4 * vocab))


@dataclass(frozen=True, slots=True)
class Targets:
    """The tokens that a step scores, slice after slice.

    Attributes:
        token_ids: (num_scored,) int64.
        slices: of each slice, how many tokens, and how many of the likeliest are wanted.
    """

    token_ids: torch.Tensor
    slices: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, slices: Sequence[Slice], device: torch.device) -> Self | None:
        """`None` if nothing is scored."""
        token_ids: list[int] = []
        parts: list[tuple[int, int]] = []
        for part in slices:
            if part.scored and part.sequence.scoring is not None:
                scored = part.scored
                token_ids += part.sequence.token_ids[scored.start + 1 : scored.stop + 1]
                parts.append((len(scored), part.sequence.scoring.num_top))
        if not parts:
            return None
        ids = torch.tensor(token_ids, dtype=torch.int64).to(device, non_blocking=True)
        return cls(ids, tuple(parts))


def score(logits: torch.Tensor, targets: Targets) -> list[Scores]:
    """Of each slice, from logits (num_scored, vocab) in float32."""
    counts = [count for count, _ in targets.slices]
    parts = zip(
        torch.split(logits, counts),
        torch.split(targets.token_ids, counts),
        targets.slices,
        strict=True,
    )
    return [score_tokens(rows, token_ids, num_top) for rows, token_ids, (_, num_top) in parts]
