"""What choosing tokens for one request remembers between steps. Owned by the step loop."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final

import torch

from llmserve.domain import SamplingParams
from llmserve.engines.sampling import GREEDY_BELOW

LEAST_ROOM: Final = 64
"""Different tokens that there is room for from the start."""
LEAST_PENALTY: Final = 1e-30
"""Smaller ones would be 0 in float32, and 0 divided by 0 no number."""


class RowSampling:
    """A request's parameters, its own random numbers, and the tokens it has seen."""

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
        self._seen: SeenTokens | None = None
        if params.repetition_penalty != 1.0:
            self._seen = SeenTokens((i for i in prompt_ids if i < vocab), device)
        elif params.presence_penalty or params.frequency_penalty:
            self._seen = SeenTokens((), device)

    @property
    def is_plain(self) -> bool:
        """Whether `adjust` has nothing to do now."""
        return self._seen is None and not len(self._bias_ids) and not self._must_go_on

    @property
    def is_filtered(self) -> bool:
        """Whether only a part of the vocabulary may be drawn."""
        params = self.params
        return params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0

    def adjust(self, scores: torch.Tensor) -> None:
        """Penalties, bias and minimum length on this row's scores, (vocab,), in place.

        The order is that of transformers and vLLM: repetition, presence and frequency, bias.
        """
        if self._seen is not None:
            self._seen.penalize(scores, self.params)
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
            self._seen.add(token_id)

    @property
    def _must_go_on(self) -> bool:
        return self._num_generated < self.params.min_tokens and len(self._eos_ids) > 0


class SeenTokens:
    """The different tokens of a prompt and its answer, and how often each is in the answer.

    Penalties touch these alone: going over a whole vocabulary takes longer than drawing from it.
    """

    def __init__(self, prompt_ids: Iterable[int], device: torch.device) -> None:
        ids = list(dict.fromkeys(prompt_ids))
        self._places = {token_id: place for place, token_id in enumerate(ids)}
        room = max(LEAST_ROOM, 2 * len(ids))
        self._ids = torch.zeros(room, dtype=torch.int64, device=device)
        self._ids[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        self._counts = torch.zeros(room, device=device)

    def add(self, token_id: int) -> None:
        """The answer's next token."""
        place = self._places.setdefault(token_id, len(self._places))
        if place == len(self._ids):
            self._ids = torch.cat((self._ids, torch.zeros_like(self._ids)))
            self._counts = torch.cat((self._counts, torch.zeros_like(self._counts)))
        self._ids[place] = token_id
        self._counts[place] += 1

    def penalize(self, scores: torch.Tensor, params: SamplingParams) -> None:
        """A row's scores, (vocab,), in place."""
        ids, counts = self._ids[: len(self._places)], self._counts[: len(self._places)]
        seen = scores[ids]
        if params.repetition_penalty != 1.0:
            penalty = max(params.repetition_penalty, LEAST_PENALTY)
            seen = torch.where(seen > 0, seen / penalty, seen * penalty)
        if params.presence_penalty or params.frequency_penalty:
            seen -= params.frequency_penalty * counts
            seen -= params.presence_penalty * (counts > 0)
        scores[ids] = seen
