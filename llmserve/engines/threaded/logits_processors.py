"""Sampling parameters as logits processors, each request with its own random generator.

`generate` is always run greedily: the last processor here draws the token itself, because
`generate` samples from the process-wide generator, which every request would share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmserve.domain import SamplingParams
from llmserve.engines.token_mask import logit_limits
from llmserve.engines.token_rule import TokenRule, Words

MIN_NOISE: Final = 2.0**-25
"""A float32 exponential draw is 0 once in 2**24; unclamped, that token would always win."""


def build_processors(
    params: SamplingParams,
    prompt_tokens: int,
    eos_ids: tuple[int, ...],
    device: torch.device,
    rule: TokenRule | None = None,
) -> LogitsProcessorList:
    """The processors of one request, in the order of transformers: penalties, then warpers. What
    the rule forbids comes between them."""
    chain = _adjustments(params, prompt_tokens, eos_ids)
    if rule is not None:
        chain = LogitsProcessorList([Restricted(rule, chain)])
    if not params.is_greedy:
        chain.extend(_warpers(params))
        chain.append(Draw(params.seed, device))
    return chain


def _adjustments(
    params: SamplingParams, prompt_tokens: int, eos_ids: tuple[int, ...]
) -> LogitsProcessorList:
    chain = LogitsProcessorList()
    if params.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    if params.presence_penalty or params.frequency_penalty:
        chain.append(
            OccurrencePenalty(params.presence_penalty, params.frequency_penalty, prompt_tokens)
        )
    if params.logit_bias:
        chain.append(LogitBias(params.logit_bias))
    end_ids = (*eos_ids, *params.stop_token_ids)
    if params.min_tokens > 0 and end_ids:
        chain.append(NoEosBefore(params.min_tokens, end_ids, prompt_tokens))
    return chain


def _warpers(params: SamplingParams) -> list[LogitsProcessor]:
    warpers: list[LogitsProcessor] = []
    if params.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k > 0:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p > 0.0:
        warpers.append(MinPLogitsWarper(params.min_p))
    return warpers


class OccurrencePenalty(LogitsProcessor):
    """OpenAI's presence and frequency penalties over the tokens generated so far."""

    def __init__(self, presence: float, frequency: float, prompt_tokens: int) -> None:
        self._presence = presence
        self._frequency = frequency
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Lower the scores, shape (1, vocab), of tokens in input_ids, shape (1, length)."""
        generated = input_ids[0, self._prompt_tokens :]
        counts = torch.bincount(generated, minlength=scores.shape[-1]).to(scores.dtype)
        return scores - self._frequency * counts - self._presence * (counts > 0)


class LogitBias(LogitsProcessor):
    """Adds to the scores of some tokens; ids without a score cannot be sampled anyway."""

    def __init__(self, bias: Sequence[tuple[int, float]]) -> None:
        self._bias = bias
        self._added: torch.Tensor | None = None  # (vocab,)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Raise or lower the scores, shape (1, vocab)."""
        if self._added is None:
            vocab = scores.shape[-1]
            added = torch.zeros(vocab)
            for token_id, value in self._bias:
                if token_id < vocab:
                    added[token_id] = value
            self._added = added.to(scores)
        return scores + self._added


class NoEosBefore(LogitsProcessor):
    """Prevents the tokens that end an answer until `min_tokens` others were generated."""

    def __init__(self, min_tokens: int, end_ids: tuple[int, ...], prompt_tokens: int) -> None:
        self._until = prompt_tokens + min_tokens
        self._end_ids = end_ids

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Mask the end tokens in scores, shape (1, vocab)."""
        if input_ids.shape[1] >= self._until:
            return scores
        masked = scores.clone()
        # A token that a request names may have an embedding and no score.
        masked[:, [i for i in self._end_ids if i < scores.shape[1]]] = -torch.inf
        return masked


class Restricted(LogitsProcessor):
    """Leaves the tokens that a rule allows, after everything else that changes scores.

    A rule wins over biases and minimum lengths: where they leave none of its tokens, the model's
    own scores decide among these.
    """

    def __init__(self, rule: TokenRule, adjustments: LogitsProcessorList) -> None:
        self._rule = rule
        self._adjustments = adjustments
        self._words: Words | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Adjust and mask scores, shape (1, vocab)."""
        adjusted: torch.Tensor = self._adjustments(input_ids, scores)
        if self._rule.is_idle:
            return adjusted
        vocab = scores.shape[-1]
        if self._words is None:
            self._words = np.empty(-(-vocab // 32), np.int32)
        self._words[:] = -1
        self._rule.restrict(self._words)
        limits = logit_limits(self._words[None], vocab).to(scores)
        masked = torch.minimum(adjusted, limits)
        if bool(masked.isneginf().all()):
            masked = torch.minimum(scores, limits)
        return masked


class Draw(LogitsProcessor):
    """Draws a token so that argmax over what it returns is a sample of softmax(scores).

    The exponential form of the Gumbel-max trick: argmax(score - log E) with E ~ Exp(1). A seed
    gives the same draws whatever else runs in the process.
    """

    def __init__(self, seed: int | None, device: torch.device) -> None:
        self._generator = torch.Generator(device)
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Perturb scores, shape (1, vocab)."""
        noise = torch.empty_like(scores).exponential_(generator=self._generator)
        return scores - noise.clamp_min_(MIN_NOISE).log_()
