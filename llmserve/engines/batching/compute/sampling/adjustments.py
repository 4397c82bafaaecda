"""Penalties, biases and minimum lengths on the logits of a step, for all its rows together.

Only the logits of tokens that were seen, biased or forbidden are changed: going over a whole
vocabulary takes longer than drawing from it. The order is that of transformers and vLLM:
repetition, presence and frequency, bias, minimum length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from llmserve.engines.batching.compute.sampling.row_state import RowState

LEAST_PENALTY: Final = 1e-30
"""Smaller ones would be 0 in float32, and 0 divided by 0 is not a number."""


def adjust(logits: torch.Tensor, rows: Sequence[RowState]) -> None:
    """In place; logits (num_rows, vocab) in float32, contiguous."""
    if all(row.is_plain for row in rows):
        return
    vocab = logits.shape[-1]
    cells = logits.view(-1)
    penalized = [index for index, row in enumerate(rows) if row.answer is not None]
    if penalized:
        _penalize(cells, vocab, rows, penalized)
    bias = [
        (index * vocab + token_id, value)
        for index, row in enumerate(rows)
        for token_id, value in row.bias
    ]
    if bias:
        places = torch.tensor([place for place, _ in bias]).to(cells.device)
        values = torch.tensor([value for _, value in bias], dtype=cells.dtype).to(cells.device)
        cells.index_add_(0, places, values)
    forbidden = [
        index * vocab + token_id
        for index, row in enumerate(rows)
        if row.must_go_on
        for token_id in row.eos_ids
    ]
    if forbidden:
        cells[torch.tensor(forbidden).to(cells.device)] = -torch.inf


def _penalize(
    cells: torch.Tensor, vocab: int, rows: Sequence[RowState], penalized: list[int]
) -> None:
    device = cells.device
    # (num_rows, 3): repetition, presence, frequency
    penalties = torch.tensor(
        [
            (
                max(row.params.repetition_penalty, LEAST_PENALTY),
                row.params.presence_penalty,
                row.params.frequency_penalty,
            )
            for row in rows
        ]
    ).to(device)
    answers, counts = _answer_cells(vocab, rows, penalized, device)
    prompts = _prompt_cells(vocab, rows, penalized, device)
    answered = _repeated(cells[answers], penalties[answers // vocab, 0])
    answered -= penalties[answers // vocab, 2] * counts
    answered -= penalties[answers // vocab, 1]
    if prompts is not None:
        cells[prompts] = _repeated(cells[prompts], penalties[prompts // vocab, 0])
    # Last, so that a token of both the prompt and the answer is penalized once.
    cells[answers] = answered


def _repeated(seen: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    return torch.where(seen > 0, seen / penalty, seen * penalty)


def _answer_cells(
    vocab: int, rows: Sequence[RowState], penalized: list[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the logits of all answers' tokens are, (num_cells,), and how often each was made."""
    tables = []
    for index in penalized:
        answer = rows[index].answer
        assert answer is not None, "a penalized row counts its answer"
        tables.append(answer.table + np.array([[index * vocab], [0]]))
    # In one copy, as a copy costs more than the bytes it moves.
    both = torch.from_numpy(np.concatenate(tables, axis=1)).to(device)
    return both[0], both[1]


def _prompt_cells(
    vocab: int, rows: Sequence[RowState], penalized: list[int], device: torch.device
) -> torch.Tensor | None:
    """Where the logits of all prompts' tokens are, (num_cells,)."""
    parts, lengths, starts = [], [], []
    for index in penalized:
        prompt_ids = rows[index].prompt_ids
        if prompt_ids is not None and len(prompt_ids):
            parts.append(prompt_ids)
            lengths.append(len(prompt_ids))
            starts.append(index * vocab)
    if not parts:
        return None
    begins, counts = torch.tensor([starts, lengths]).to(device)
    offsets = torch.repeat_interleave(begins, counts, output_size=sum(lengths))
    return torch.cat(parts) + offsets
