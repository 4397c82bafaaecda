"""Log probabilities of a prompt's tokens, by forward passes beside `generate`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

import torch

from llmserve.engines.scores import Scores
from llmserve.engines.scoring import score_tokens

LOGIT_BYTES: Final = 256 * 2**20
"""Of logits in float32 at a time."""


def prompt_scores(model: Any, input_ids: torch.Tensor, num_top: int, most: int) -> Iterator[Scores]:
    """Those of the tokens of `input_ids`, (1, num_tokens), from the second one on, in pieces of at
    most `most` tokens.

    Each is computed from the prompt's beginning, as not every model can go on from a cache with
    several tokens: a long prompt takes a whole forward pass for each piece.
    """
    takes_rows = "logits_to_keep" in inspect.signature(model.forward).parameters
    end = input_ids.shape[1] - 1
    for start in range(0, end, most):
        stop = min(start + most, end)
        ids = input_ids[:, :stop]
        kept = {"logits_to_keep": stop - start} if takes_rows else {}
        logits = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **kept
        ).logits
        rows = logits[0, start - stop :].float()  # (piece, vocab)
        yield score_tokens(rows, input_ids[0, start + 1 : stop + 1], num_top)
