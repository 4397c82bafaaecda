"""The next token of every row, by the row's own parameters, and its logprobs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmserve.domain import TokenLogprobs
from llmserve.engines.batching.compute.sampling.adjustments import adjust
from llmserve.engines.batching.compute.sampling.masks import Masks
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.sampling.torch_sampler import SampleTokens, sample_tokens
from llmserve.engines.batching.sampled_token import SampledToken


@torch.inference_mode()
def sample(
    logits: torch.Tensor,
    rows: Sequence[RowState],
    sample_tokens: SampleTokens = sample_tokens,
    masks: Masks | None = None,
) -> list[SampledToken]:
    """Choose from logits (num_rows, vocab) in float32, which may be overwritten; greedy and sampled
    rows mix. `masks` are those of the rows that have a rule.

    Logprobs are the model's own: temperature, filters and penalties do not change them.
    """
    wanted = WantedLogprobs(logits, rows)
    if masks is None:
        adjust(logits, rows)
    else:
        masks.check()
        kept = masks.keep(logits, rows)
        adjust(logits, rows)
        masks.apply(logits, kept)
    chosen = sample_tokens(logits, rows)
    logprobs = wanted.of(chosen)
    # Last, when nothing can fail any more, as a step that fails is tried again.
    for row, token_id in zip(rows, chosen, strict=True):
        if token_id is not None:
            row.accept(token_id)
    return [SampledToken(*each) for each in zip(chosen, logprobs, strict=True)]


class WantedLogprobs:
    """Logprobs of the rows that want them, from a copy made before anything changes the logits."""

    def __init__(self, logits: torch.Tensor, rows: Sequence[RowState]) -> None:
        self._wanted = [
            (index, row.params.logprobs)
            for index, row in enumerate(rows)
            if row.params.logprobs is not None
        ]
        if self._wanted:
            self._logits = logits[[index for index, _ in self._wanted]]  # a copy
            self._total = self._logits.logsumexp(-1, keepdim=True)

    def of(self, chosen: Sequence[int | None]) -> list[TokenLogprobs | None]:
        """Of the chosen token and of the likeliest ones, for each row; `None` if it wants none."""
        found: list[TokenLogprobs | None] = [None] * len(chosen)
        if not self._wanted:
            return found
        own_ids = torch.tensor([chosen[index] or 0 for index, _ in self._wanted])
        own_ids = own_ids.to(self._logits.device)[:, None]
        count = min(max(top for _, top in self._wanted), self._logits.shape[-1])
        best = self._logits.topk(count)
        values = torch.cat((self._logits.gather(-1, own_ids), best.values), -1) - self._total
        best_ids, logprobs = best.indices.tolist(), values.tolist()
        for place, (index, top) in enumerate(self._wanted):
            token_id = chosen[index]
            if token_id is not None:
                own, *largest = logprobs[place]
                pairs = zip(best_ids[place][:top], largest[:top], strict=True)
                found[index] = TokenLogprobs(token_id, own, tuple(pairs))
        return found
