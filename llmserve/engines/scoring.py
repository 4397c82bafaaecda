"""Log probabilities of a prompt's tokens, from the logits before each."""

from __future__ import annotations

from array import array
from typing import Any, Final

import numpy as np
import torch

from llmserve.engines.scores import Scores

ROWS: Final = 64
"""That are scored at a time, so that the copies that it takes stay small beside the logits."""


def score_tokens(logits: torch.Tensor, token_ids: torch.Tensor, num_top: int) -> Scores:
    """Token i of `token_ids`, (num_tokens,) int64, by row i of the logits, (num_tokens, vocab) in
    float32: log-softmax in float32."""
    count = min(num_top, logits.shape[-1])
    values, places = [], []
    for rows, ids in zip(torch.split(logits, ROWS), torch.split(token_ids, ROWS), strict=True):
        own, (best, best_ids) = _own(rows, ids), _best(rows, count)
        values.append(torch.cat((own, best), -1) - rows.logsumexp(-1, keepdim=True))
        places.append(torch.cat((ids[:, None], _ranks(rows, own), best_ids), -1))
    # Each copy waits for the device.
    logprobs, numbers = torch.cat(values).cpu(), torch.cat(places).int().cpu()
    return Scores(
        num_top=count,
        token_ids=_packed("i", numbers[:, 0]),
        logprobs=_packed("f", logprobs[:, 0]),
        ranks=_packed("i", numbers[:, 1]),
        top_ids=_packed("i", numbers[:, 2:]),
        top_logprobs=_packed("f", logprobs[:, 1:]),
    )


def _own(rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Each token's logit, (num_rows, 1): a token may have an embedding and no logit."""
    vocab = rows.shape[-1]
    own = rows.gather(-1, ids.clamp(max=vocab - 1)[:, None])
    return own.masked_fill_(ids[:, None] >= vocab, -torch.inf)


def _best(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logits and their tokens, (num_rows, count) each."""
    if count != 1 or rows.device.type != "cpu":
        values, ids = rows.topk(count)
        return values, ids
    # 64 rows of 49,152 on one thread: torch takes 20 ms for it, numpy 1.5 ms.
    best = torch.from_numpy(rows.numpy().argmax(-1, keepdims=True))
    return rows.gather(-1, best), best


def _ranks(rows: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """1 + how many tokens are likelier, (num_rows, 1)."""
    if rows.device.type != "cpu":
        return (rows > own).sum(-1, keepdim=True) + 1
    # The same: torch 21 ms, numpy 6 ms.
    likelier = np.count_nonzero(rows.numpy() > own.numpy(), axis=-1, keepdims=True)
    return torch.from_numpy(np.asarray(likelier)) + 1


def _packed(code: Any, column: torch.Tensor) -> array[Any]:
    return array(code, column.contiguous().numpy().tobytes())
