"""Each row's next token by torch, on any device: the largest logit, or a draw.

Filters are thresholds: top-k, top-p and min-p, in this order, each keep the logits from some value
up, and equal logits are kept or removed together, as in transformers. A draw inverts the cumulative
distribution of what is left, in the order of token ids, at the row's own uniform number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch

from llmserve.engines.batching.compute.sampling.row_state import RowState

CANDIDATES: Final = 1024
"""Sorting a whole vocabulary takes milliseconds per row; top-p seldom needs more than this."""
BLOCK: Final = 256
"""Tokens whose probabilities are summed together before a draw looks at single ones."""

SampleTokens = Callable[[torch.Tensor, Sequence[RowState]], list[int | None]]
"""From logits (num_rows, vocab) in float32, which may be overwritten, to each row's token; `None`
if a row's logits are not numbers."""


def sample_tokens(logits: torch.Tensor, rows: Sequence[RowState]) -> list[int | None]:
    """The likeliest token of a greedy row, a draw for every other."""
    largest, token_ids = _best(logits)
    drawn = [index for index, row in enumerate(rows) if not row.params.is_greedy]
    if drawn:
        token_ids[drawn] = _drawn(logits, largest, rows, drawn)
    return _to_host(token_ids, largest)


def _best(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logit of each row and its token, (num_rows,) each; NaN counts as the largest."""
    if logits.device.type != "cpu":
        largest, best = logits.max(-1)
        return largest, best
    # 32 rows of 49,152: torch takes 2 to 8 ms for it, numpy 0.2 ms.
    best = torch.from_numpy(logits.numpy().argmax(-1))
    return logits.gather(-1, best[:, None])[:, 0], best


def _to_host(token_ids: torch.Tensor, largest: torch.Tensor) -> list[int | None]:
    if token_ids.device.type == "cpu":
        chosen, is_number = token_ids.tolist(), map(math.isfinite, largest.tolist())
    else:
        # In one copy, as each waits for the device.
        chosen, is_number = torch.stack((token_ids, largest.isfinite().long())).tolist()
    return [int(i) if good else None for i, good in zip(chosen, is_number, strict=True)]


def _drawn(
    logits: torch.Tensor, largest: torch.Tensor, rows: Sequence[RowState], drawn: list[int]
) -> torch.Tensor:
    """Token ids of the rows `drawn`, (len(drawn),)."""
    everyone = len(drawn) == len(rows)
    scores = logits if everyone else logits[drawn]
    largest = largest if everyone else largest[drawn]
    wanted = [rows[index] for index in drawn]
    temperatures = _column([row.params.temperature for row in wanted], scores)
    # The largest score is 0 now.
    scores = scores.sub_(largest[:, None]).div_(temperatures)
    filtered = [index for index, row in enumerate(wanted) if row.is_filtered]
    if filtered:
        part = scores if len(filtered) == len(wanted) else scores[filtered]
        least = _least([wanted[index] for index in filtered], part)
        part = part.masked_fill_(part < least, -torch.inf)
        if part is not scores:
            scores[filtered] = part
    return _draw(scores.exp_(), [row.draw() for row in wanted])


def _draw(weights: torch.Tensor, uniform: list[float]) -> torch.Tensor:
    """Token ids, (num_rows,), by weights (num_rows, vocab), whose sums may be anything but zero."""
    num_rows, vocab = weights.shape
    size = -(-vocab // BLOCK) * BLOCK
    if size != vocab:
        weights = torch.nn.functional.pad(weights, (0, size - vocab))
    blocks = weights.view(num_rows, -1, BLOCK)
    sums = blocks.sum(-1)  # (num_rows, num_blocks)
    # The sum of 150,000 small float32 numbers would be off in the fifth digit.
    ends = sums.cumsum(-1, dtype=torch.float64)
    target = ends[:, -1:] * torch.tensor(uniform, dtype=torch.float64, device=ends.device)[:, None]
    block = _reached(ends, target)
    before = ends.gather(-1, block) - sums.gather(-1, block)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0]
    place = _reached(before + inside.cumsum(-1, dtype=torch.float64), target)
    return (block * BLOCK + place)[:, 0]


def _reached(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Where each row, (num_rows, n), exceeds its target, (num_rows, 1)."""
    place = torch.searchsorted(cumulative, target, right=True)
    # Rounding may lead past the last place with any weight.
    last = (cumulative < cumulative[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(place, last)


def _least(rows: Sequence[RowState], scores: torch.Tensor) -> torch.Tensor:
    """The least score that each row may draw, (num_rows, 1); scores are 0 at most."""
    vocab = scores.shape[-1]
    count = min(vocab, max(CANDIDATES, *(row.params.top_k for row in rows), 1))
    least = _least_among(rows, scores, scores.topk(count).values)
    if least is None:
        least = _least_among(rows, scores, _descending(scores))
        assert least is not None, "the whole vocabulary reaches any top_p"
    return least


def _least_among(
    rows: Sequence[RowState], scores: torch.Tensor, candidates: torch.Tensor
) -> torch.Tensor | None:
    """From the best candidates of each row, (num_rows, count), in descending order; `None` if
    more are needed."""
    vocab, count = scores.shape[-1], candidates.shape[-1]
    floor = scores.new_full((len(rows), 1), -torch.inf)
    limits = torch.tensor([min(row.params.top_k or vocab, vocab) for row in rows]).to(scores.device)
    is_limited = limits[:, None] < vocab
    kth = candidates.gather(-1, limits[:, None].clamp(max=count) - 1)
    least = torch.where(is_limited, kth, floor)
    top_p = _column([row.params.top_p for row in rows], scores)
    if any(row.params.top_p < 1.0 for row in rows):
        # The fewest of those that top-k keeps which reach the share, at least one.
        weights = candidates.masked_fill(candidates < least, -torch.inf).exp()
        total = torch.where(
            is_limited, weights.sum(-1, keepdim=True), scores.exp().sum(-1, keepdim=True)
        )
        reached = weights.cumsum(-1, dtype=torch.float64)
        wanted = top_p.double() * total
        if count < vocab and bool(((top_p < 1.0) & ~is_limited & (reached[:, -1:] < wanted)).any()):
            return None
        ends = (reached < wanted).sum(-1, keepdim=True).clamp(max=count - 1)
        nucleus = torch.where(top_p < 1.0, candidates.gather(-1, ends), floor)
        least = torch.maximum(least, nucleus)
    min_p = _column([row.params.min_p for row in rows], scores)
    # The best token is always kept.
    return torch.maximum(least, min_p.log()).clamp(max=0.0)


def _descending(scores: torch.Tensor) -> torch.Tensor:
    if scores.device.type != "cpu":
        return scores.sort(descending=True).values
    # numpy sorts values with vector instructions, torch also sorts indices: ten times as slow.
    return torch.from_numpy(-np.sort(-scores.numpy(), axis=-1))


def _column(values: list[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, device=like.device)[:, None]
