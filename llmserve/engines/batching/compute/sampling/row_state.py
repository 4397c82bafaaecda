"""What the sampler remembers of one request between steps. Owned by the step loop."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from llmserve.domain import SamplingParams
from llmserve.engines.token_rule import TokenRule

LEAST_ROOM: Final = 64
"""Room for different tokens of an answer at the start."""


class RowState:
    """A request's parameters, its own random numbers, and the tokens it has seen.

    Attributes:
        eos_ids: tokens that end the answer and have a logit.
        bias: (token id, value) pairs of tokens that have a logit.
        prompt_ids: (num_ids,) int64 on the device, the prompt's different tokens; `None` if no
            penalty needs them.
        answer: the answer's tokens; `None` if no penalty needs them.
        vocab: how many tokens have a logit.
        rule: which tokens may come next; `None` if any may.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        eos_ids: Sequence[int],
        vocab: int,
        device: torch.device,
        rule: TokenRule | None = None,
    ) -> None:
        self.params = params
        self.rule = rule
        self.vocab = vocab
        self._random = random.Random(params.seed)  # noqa: S311  # tokens, not secrets
        # A token may have an embedding and no logit.
        self.eos_ids = [i for i in (*eos_ids, *params.stop_token_ids) if i < vocab]
        self.bias = [(i, value) for i, value in params.logit_bias if i < vocab]
        self._num_generated = 0
        self._drawn: float | None = None
        self.prompt_ids: torch.Tensor | None = None
        self.answer: AnswerTokens | None = None
        if params.repetition_penalty != 1.0:
            different = np.unique(np.fromiter((i for i in prompt_ids if i < vocab), np.int64))
            self.prompt_ids = torch.from_numpy(different).to(device)
        if self.prompt_ids is not None or params.presence_penalty or params.frequency_penalty:
            self.answer = AnswerTokens()

    @property
    def is_plain(self) -> bool:
        """Whether `adjust` leaves its logits as they are."""
        return self.answer is None and not self.bias and not self.must_go_on

    @property
    def is_restricted(self) -> bool:
        """Whether its rule has a say in the next token."""
        return self.rule is not None and not self.rule.is_idle

    @property
    def is_filtered(self) -> bool:
        """Whether some of the vocabulary may not be drawn."""
        params = self.params
        return params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0

    @property
    def must_go_on(self) -> bool:
        """Whether the answer may not end with the next token."""
        return self._num_generated < self.params.min_tokens and len(self.eos_ids) > 0

    def draw(self) -> float:
        """The next uniform number in [0, 1): one for each drawn token, so that a seed gives the
        same answer whatever else is in the batch, and whether or not a step is tried again."""
        if self._drawn is None:
            self._drawn = self._random.random()
        return self._drawn

    def accept(self, token_id: int) -> None:
        """The row's next token was chosen."""
        self._num_generated += 1
        self._drawn = None
        if self.answer is not None:
            self.answer.add(token_id)
        if self.rule is not None:
            self.rule.accept(token_id)


class AnswerTokens:
    """An answer's different tokens, and how often each was generated. They stay on the host: a step
    sends those of all its rows to the device together."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        # (2, room): token ids, counts
        self._table: npt.NDArray[np.int64] = np.zeros((2, LEAST_ROOM), np.int64)

    @property
    def table(self) -> npt.NDArray[np.int64]:
        """(2, num_ids): token ids, and counts."""
        return self._table[:, : len(self._places)]

    def add(self, token_id: int) -> None:
        """The answer's next token."""
        place = self._places.setdefault(token_id, len(self._places))
        if place == self._table.shape[1]:
            self._table = np.concatenate((self._table, np.zeros_like(self._table)), axis=1)
        self._table[0, place] = token_id
        self._table[1, place] += 1
