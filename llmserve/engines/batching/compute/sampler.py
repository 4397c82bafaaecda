"""Chooses the next token of every row, each row by its own parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.domain import TokenLogprobs
from llmserve.engines.batching.compute.row_sampling import RowSampling

CANDIDATES: Final = 1024
"""Sorting a whole vocabulary costs milliseconds a row; top-p seldom reaches further than this."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One row's next token; `None` where its logits are not numbers."""

    token_id: int | None
    logprobs: TokenLogprobs | None = None


@torch.inference_mode()
def sample(logits: torch.Tensor, rows: Sequence[RowSampling]) -> list[Choice]:
    """Logits (num_rows, vocab) in float32, which may be overwritten; greedy and sampled rows mix.

    A draw inverts the cumulative distribution at the row's own uniform number.
    """
    wanted = [row.params.logprobs for row in rows]
    logprobs = logits.log_softmax(-1) if any(n is not None for n in wanted) else None
    for index, row in enumerate(rows):
        if not row.is_plain:
            row.adjust(logits[index])
    largest, token_ids = _best(logits)
    drawn = [index for index, row in enumerate(rows) if not row.is_greedy]
    plain = [index for index in drawn if not rows[index].is_filtered]
    filtered = [index for index in drawn if rows[index].is_filtered]
    if plain:
        token_ids[plain] = _draw(_tempered(logits, rows, plain), [rows[i] for i in plain])
    if filtered:
        token_ids[filtered] = _draw_filtered(
            _tempered(logits, rows, filtered), [rows[i] for i in filtered]
        )
    chosen, is_number = _to_host(token_ids, largest)
    choices = []
    for index, row in enumerate(rows):
        if not is_number[index]:
            choices.append(Choice(None))
            continue
        row.accept(chosen[index])
        top = wanted[index]
        told = None
        if logprobs is not None and top is not None:
            told = _told(logprobs[index], chosen[index], top)
        choices.append(Choice(chosen[index], told))
    return choices


def _best(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logit of each row and its token, (num_rows,) each; no number beats any."""
    if logits.device.type != "cpu":
        largest, best = logits.max(-1)
        return largest, best
    # 32 rows of 49,152: torch takes 2 to 8 ms for it, numpy 0.2 ms.
    best = torch.from_numpy(logits.numpy().argmax(-1))
    return logits.gather(-1, best[:, None])[:, 0], best


def _to_host(token_ids: torch.Tensor, largest: torch.Tensor) -> tuple[list[int], list[bool]]:
    """Token ids, and whether each row's logits are numbers."""
    if token_ids.device.type == "cpu":
        return token_ids.tolist(), [math.isfinite(value) for value in largest.tolist()]
    # In one copy: each one waits for the device.
    chosen, is_number = torch.stack((token_ids, largest.isfinite().long())).tolist()
    return chosen, is_number


def _tempered(
    logits: torch.Tensor, rows: Sequence[RowSampling], indices: Sequence[int]
) -> torch.Tensor:
    temperatures = [rows[index].params.temperature for index in indices]
    return logits[indices] / torch.tensor(temperatures, device=logits.device)[:, None]


def _draw(scores: torch.Tensor, rows: Sequence[RowSampling]) -> torch.Tensor:
    """Positions, (num_rows,), drawn from softmax(scores), scores (num_rows, n)."""
    # The sum of 150,000 small float32 numbers would be off in the fifth digit.
    cumulative = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
    uniform = torch.tensor([row.draw() for row in rows], dtype=torch.float64, device=scores.device)[
        :, None
    ]
    total = cumulative[:, -1:]
    positions = torch.searchsorted(cumulative, uniform * total, right=True)
    # Rounding may reach the end, where tokens have no probability: the last that has some.
    last = (cumulative < total).sum(-1, keepdim=True)
    return torch.minimum(positions, last)[:, 0]


def _draw_filtered(scores: torch.Tensor, rows: Sequence[RowSampling]) -> torch.Tensor:
    """Token ids, (num_rows,), drawn within top-k, top-p and min-p, in this order."""
    vocab = scores.shape[-1]
    count = min(vocab, CANDIDATES)
    if any(row.params.top_k > count for row in rows):
        count = vocab
    candidates, ids = scores.topk(count, sorted=True)  # (num_rows, count) each
    kept = _kept(scores, candidates, rows)
    if kept is None:
        candidates, ids = scores.sort(descending=True, stable=True)
        kept = _kept(scores, candidates, rows)
        assert kept is not None, "the whole vocabulary reaches any top_p"
    positions = _draw(candidates.masked_fill(~kept, -torch.inf), rows)
    return ids.gather(-1, positions[:, None])[:, 0]


def _kept(
    scores: torch.Tensor, candidates: torch.Tensor, rows: Sequence[RowSampling]
) -> torch.Tensor | None:
    """Which candidates, sorted from the best, may be drawn; `None` if more are needed to tell."""
    device, count = scores.device, candidates.shape[-1]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=device)[:, None]

    limit = torch.tensor([row.params.top_k or scores.shape[-1] for row in rows], device=device)
    rank = torch.arange(count, device=device)[None, :]
    kept = rank < limit[:, None]
    # top-p: of what top-k left, the fewest tokens that reach the share, at least one.
    among = candidates.masked_fill(~kept, -torch.inf).logsumexp(-1)
    total = torch.where(limit <= count, among, scores.logsumexp(-1))[:, None]
    shares = (candidates - total).exp().masked_fill(~kept, 0.0)
    before = shares.cumsum(-1, dtype=torch.float64) - shares
    top_p = column([row.params.top_p for row in rows])
    reached = before < top_p
    ends = (limit <= count) | ~reached[:, -1]
    # Without top-p a row may draw any token that min-p leaves, however many there are.
    least = candidates[:, :1] + column([row.params.min_p for row in rows]).log()
    ends |= candidates[:, -1] < least[:, 0]
    if count < scores.shape[-1] and not bool(ends.all()):
        return None
    kept &= (reached | (top_p >= 1.0)) & (candidates >= least)
    kept[:, 0] = True
    return kept


def _told(logprobs: torch.Tensor, token_id: int, top: int) -> TokenLogprobs:
    """Of a row, (vocab,): the chosen token's and the `top` largest."""
    values, ids = logprobs.topk(min(top, len(logprobs)))
    pairs = zip((int(i) for i in ids.tolist()), values.tolist(), strict=True)
    return TokenLogprobs(token_id, float(logprobs[token_id]), tuple(pairs))
