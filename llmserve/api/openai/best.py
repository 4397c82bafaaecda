"""Which of several answers to one prompt are the best."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmserve.service import Answer


def best_answers(answers: Sequence[Answer], per_prompt: int, best: int | None) -> list[int]:
    """The indices of those to return, prompt by prompt: all, or the `best` with the highest mean
    log probability per token, in this order. An answer without tokens is the worst."""
    if best is None:
        return list(range(len(answers)))
    return [
        index
        for begin in range(0, len(answers), per_prompt)
        for index in sorted(
            range(begin, min(begin + per_prompt, len(answers))),
            key=lambda index: -_mean(answers[index]),
        )[:best]
    ]


def _mean(answer: Answer) -> float:
    tokens = answer.logprobs or ()
    return sum(token.logprob for token in tokens) / len(tokens) if tokens else -math.inf
