"""What a classifier's logits mean."""

from __future__ import annotations

import math

from llmserve.domain import EncodingAnswer


def probabilities(answer: EncodingAnswer, index: int) -> list[float]:
    """Of each class for one input: together 1, unless an input may be of several classes."""
    logits = answer.vectors[index].tolist()
    if answer.takes_several:
        return [_sigmoid(logit) for logit in logits]
    most = max(logits)
    weights = [math.exp(logit - most) for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def _sigmoid(logit: float) -> float:
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    weight = math.exp(logit)  # which cannot overflow
    return weight / (1.0 + weight)
