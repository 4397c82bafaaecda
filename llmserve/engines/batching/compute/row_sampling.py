"""What choosing tokens for one request remembers between steps. Owned by the step loop."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import torch

from llmserve.domain import SamplingParams
from llmserve.engines.sampling import GREEDY_BELOW

LEAST_PENALTY: Final = 1e-30
"""Smaller ones would be 0 in float32, and 0 divided by 0 no number."""


class RowSampling:
    """A request's parameters, its own random numbers, and counts of its tokens.

    The counts exist only where a penalty asks for them: a tensor of `vocab` numbers, which is how
    many logits the model gives.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        eos_ids: Sequence[int],
        vocab: int,
        device: torch.device,
    ) -> None:
        self.params = params
        self.is_greedy = params.temperature <= GREEDY_BELOW
        self._random = random.Random(params.seed)  # noqa: S311  # tokens, not secrets
        # A token may have an embedding and no logit.
        ends = [i for i in eos_ids if i < vocab]
        bias = [(i, value) for i, value in params.logit_bias if i < vocab]
        self._eos_ids = torch.tensor(ends, dtype=torch.int64, device=device)
        self._num_generated = 0
        self._bias_ids = torch.tensor([i for i, _ in bias], dtype=torch.int64, device=device)
        self._bias = torch.tensor([value for _, value in bias], device=device)
        self._seen: torch.Tensor | None = None  # (vocab,) bool, prompt and answer
        self._counts: torch.Tensor | None = None  # (vocab,) float32, of the answer
        if params.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocab, dtype=torch.bool, device=device)
            self._seen[torch.tensor([i for i in prompt_ids if i < vocab], device=device).long()] = (
                True
            )
        if params.presence_penalty or params.frequency_penalty:
            self._counts = torch.zeros(vocab, device=device)

    @property
    def is_plain(self) -> bool:
        """Whether `adjust` has nothing to do now."""
        return (
            self._seen is None
            and self._counts is None
            and not len(self._bias_ids)
            and not self._must_go_on
        )

    @property
    def is_filtered(self) -> bool:
        """Whether only a part of the vocabulary may be drawn."""
        params = self.params
        return params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0

    def adjust(self, scores: torch.Tensor) -> None:
        """Penalties, bias and minimum length on this row's scores, (vocab,), in place.

        The order is that of transformers and vLLM: repetition, presence and frequency, bias.
        """
        params = self.params
        if self._seen is not None:
            penalty = max(params.repetition_penalty, LEAST_PENALTY)
            lowered = torch.where(scores > 0, scores / penalty, scores * penalty)
            scores.copy_(torch.where(self._seen, lowered, scores))
        if self._counts is not None:
            scores -= params.frequency_penalty * self._counts
            scores -= params.presence_penalty * (self._counts > 0)
        if len(self._bias_ids):
            scores.index_add_(0, self._bias_ids, self._bias)
        if self._must_go_on:
            scores[self._eos_ids] = -torch.inf

    def draw(self) -> float:
        """The next uniform number in [0, 1): one for each drawn token, so that a seed gives the
        same answer whatever else is in the batch."""
        return self._random.random()

    def accept(self, token_id: int) -> None:
        """The row's next token was chosen."""
        self._num_generated += 1
        if self._seen is not None:
            self._seen[token_id] = True
        if self._counts is not None:
            self._counts[token_id] += 1

    @property
    def _must_go_on(self) -> bool:
        return self._num_generated < self.params.min_tokens and len(self._eos_ids) > 0
