"""Weights with which an untrained Llama can already copy: induction heads.

A head of the first layer writes into each position which token came before it. A head of the second
layer looks for the positions that came after the current token, and predicts what stands there. A
model learns such heads by itself, but late; from these it starts with them and improves them.
Source: Olsson et al., In-context Learning and Induction Heads, 2022.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch

SPREAD: Final = 0.1
"""Standard deviation of embeddings: large beside a step of training."""

CONSTANT: Final = 0.3
"""What every token's embedding has in its first dimension; tied logits do not change by it."""

STEEPNESS: Final = 100.0
"""How strongly the first layer's head prefers the token before to that before it."""

MATCH: Final = 1.0
"""Score in the second layer for each dimension in which two tokens agree."""

FAST: Final = 0.1
SLOW: Final = 0.005
"""Radians per position: the first layer's head uses dimensions that turn faster than `FAST`, which
tell neighbours apart; the second layer's those slower than `SLOW`, which hardly tell distances."""

QUIET: Final = 0.5
"""What all other weights that write into the residual stream are scaled by."""

NOTE: Final = 0.15
COPY: Final = 1.5
"""How loud the heads write into the residual stream, where embeddings are of size `SPREAD`."""


@torch.no_grad()
def plant_induction_heads(model: Any) -> None:
    """Overwrite the first KV head, and the first head that reads it, of the first two layers.

    The last dimensions of the residual stream, as many as a head has, take the note of the token
    before; embeddings begin without them.
    """
    size = model.config.head_dim
    frequencies = model.model.rotary_emb.inv_freq  # (size / 2), radians per position
    embeddings = model.get_input_embeddings().weight  # (vocab, width)
    width = embeddings.shape[1]
    inside, note = slice(1, width - size), slice(width - size, width)
    # All of one size, so that the constant stays the same share.
    drawn = torch.randn(len(embeddings), width - size - 1)
    embeddings[:, inside] = drawn / drawn.pow(2).mean(1, keepdim=True).sqrt() * SPREAD
    embeddings[:, 0] = CONSTANT
    embeddings[:, note] = 0.0
    constant = CONSTANT / embeddings[1].pow(2).mean().sqrt()
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight *= QUIET
        layer.mlp.down_proj.weight *= QUIET
    basis = torch.linalg.qr(torch.randn(width - size - 1, 2 * size)).Q.T
    read, copied = basis[:size], basis[size:]  # both (size, inside)

    first = model.model.layers[0].self_attn
    half, scale = size // 2, math.sqrt(STEEPNESS) / constant * (frequencies > FAST)
    first.q_proj.weight[:size] = 0.0
    first.k_proj.weight[:size] = 0.0
    first.k_proj.weight[:half, 0] = scale
    first.q_proj.weight[:half, 0] = scale * frequencies.cos()
    first.q_proj.weight[half:size, 0] = -scale * frequencies.sin()
    _write(first, read, inside, note, torch.eye(size) * NOTE)

    second = model.model.layers[1].self_attn
    slow = [i for i in range(half) if frequencies[i] < SLOW]
    kept = [*slow, *(half + i for i in slow)]
    loudness = math.sqrt(MATCH * math.sqrt(size))
    second.q_proj.weight[:size] = 0.0
    second.k_proj.weight[:size] = 0.0
    second.q_proj.weight[kept, inside] = read[: len(kept)] * loudness
    second.k_proj.weight[kept, note] = torch.eye(size)[: len(kept)] * loudness * SPREAD / NOTE
    _write(second, copied, inside, inside, copied.T * COPY)


def _write(
    attention: Any, values: torch.Tensor, source: slice, target: slice, output: torch.Tensor
) -> None:
    """Let the first head take these values, (size, source), and write them, (target, size)."""
    size = len(values)
    attention.v_proj.weight[:size] = 0.0
    attention.v_proj.weight[:size, source] = values
    attention.o_proj.weight[:, :size] = 0.0
    attention.o_proj.weight[target, :size] = output
