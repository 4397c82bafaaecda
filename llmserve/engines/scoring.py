"""Log probabilities of a prompt's tokens, from the logits before each."""

from __future__ import annotations

from array import array
from typing import Any, Final

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
        own, best = _own(rows, ids), rows.topk(count)
        ranks = (rows > own).sum(-1, keepdim=True) + 1
        values.append(torch.cat((own, best.values), -1) - rows.logsumexp(-1, keepdim=True))
        places.append(torch.cat((ids[:, None], ranks, best.indices), -1))
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


def _packed(code: Any, column: torch.Tensor) -> array[Any]:
    return array(code, column.contiguous().numpy().tobytes())
