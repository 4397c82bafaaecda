"""The next token of every row, each row by its own parameters, and what is told about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llmserve.domain import TokenLogprobs
from llmserve.engines.batching.compute.choosing import Choose, choose
from llmserve.engines.batching.compute.row_sampling import RowSampling


@dataclass(frozen=True, slots=True)
class Choice:
    """One row's next token; `None` where its logits are not numbers."""

    token_id: int | None
    logprobs: TokenLogprobs | None = None


@torch.inference_mode()
def sample(
    logits: torch.Tensor, rows: Sequence[RowSampling], choose: Choose = choose
) -> list[Choice]:
    """Logits (num_rows, vocab) in float32, which may be overwritten; greedy and sampled rows mix.

    Logprobs are the model's own: temperature, filters and penalties do not change them.
    """
    told = Told(logits, rows)
    for index, row in enumerate(rows):
        if not row.is_plain:
            row.adjust(logits[index])
    choices = []
    for index, (row, token_id) in enumerate(zip(rows, choose(logits, rows), strict=True)):
        if token_id is None:
            choices.append(Choice(None))
            continue
        row.accept(token_id)
        choices.append(Choice(token_id, told.of(index, token_id)))
    return choices


class Told:
    """Logprobs of the rows that want them, kept aside before anything changes the logits."""

    def __init__(self, logits: torch.Tensor, rows: Sequence[RowSampling]) -> None:
        wanted = [index for index, row in enumerate(rows) if row.params.logprobs is not None]
        self._place = {index: place for place, index in enumerate(wanted)}
        self._top = [rows[index].params.logprobs or 0 for index in wanted]
        if wanted:
            self._logits = logits[wanted]  # a copy
            self._total = self._logits.logsumexp(-1, keepdim=True)
            best = self._logits.topk(min(max(self._top), logits.shape[-1]))
            self._best_ids = best.indices.tolist()
            self._best = (best.values - self._total).tolist()

    def of(self, row: int, token_id: int) -> TokenLogprobs | None:
        """The chosen token's and the largest ones; `None` where the row wants none."""
        place = self._place.get(row)
        if place is None:
            return None
        top = self._top[place]
        pairs = zip(self._best_ids[place][:top], self._best[place][:top], strict=True)
        own = self._logits[place, token_id] - self._total[place, 0]
        return TokenLogprobs(token_id, float(own), tuple(pairs))
