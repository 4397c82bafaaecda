"""From the vectors of tokens to one for each input, as sentence-transformers has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

Pool = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of token vectors, (rows, tokens, hidden); which of these count, (rows, tokens); and how many
tokens a row has, (rows,), to (rows, hidden)."""


def pooled(
    modes: Sequence[str], hidden: Tensor, lengths: Tensor, unpooled: Tensor | None = None
) -> Tensor:
    """The vectors of all modes one after another, (rows, modes × hidden) in float32.

    Rows are padded at their ends. `unpooled`, (rows,), is how many tokens at the beginning of each
    do not count.
    """
    positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
    counts = positions < lengths[:, None]
    if unpooled is not None:
        # Of an input that is nothing but its prompt the last token counts.
        counts &= positions >= torch.minimum(unpooled, lengths - 1)[:, None]
    return torch.cat([POOLS[mode](hidden.float(), counts, lengths) for mode in modes], dim=-1)


def _first(hidden: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), counts.int().argmax(1)]


def _last(hidden: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]


def _max(hidden: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    return hidden.masked_fill(~counts[..., None], float("-inf")).amax(1)


def _sum(hidden: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("rth,rt->rh", hidden, weights)


def _mean(hidden: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    return _sum(hidden, counts.float()) / counts.sum(1, keepdim=True)


def _mean_by_root(hidden: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    return _sum(hidden, counts.float()) / counts.sum(1, keepdim=True).sqrt()


def _weighted_mean(hidden: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    """Each token weighs as much as its position, from 1."""
    weights = counts * torch.arange(1, hidden.shape[1] + 1, device=hidden.device).float()
    return _sum(hidden, weights) / weights.sum(1, keepdim=True)


POOLS: Final[Mapping[str, Pool]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
