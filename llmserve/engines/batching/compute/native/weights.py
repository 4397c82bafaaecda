"""A model's weights as the kernels read them: merged, packed, each stored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from llmserve.engines.batching.compute.native.kernels import PANEL_ROWS, Kernels
from llmserve.engines.batching.compute.native.structure import Structure


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. Matrices are packed bfloat16, biases and norms float32, absent ones `None`.

    In `gate_up` and its bias, 16 rows of the gate and the same 16 of the other half alternate.
    """

    qkv: torch.Tensor
    out: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    qkv_bias: torch.Tensor | None
    out_bias: torch.Tensor | None
    gate_up_bias: torch.Tensor | None
    down_bias: torch.Tensor | None
    attention_norm: torch.Tensor
    mlp_norm: torch.Tensor
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None

    def tensors(self) -> Iterator[tuple[str, torch.Tensor | None]]:
        """Names as in the kernels' structure."""
        for field in fields(self):
            yield field.name, getattr(self, field.name)


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole model; `embedding` is `None` if the packed head is read instead."""

    layers: tuple[LayerWeights, ...]
    embedding: torch.Tensor | None  # (vocab, hidden) bfloat16
    head: torch.Tensor
    final_norm: torch.Tensor


@torch.no_grad()
def take_weights(kernels: Kernels, model: Any, structure: Structure) -> Weights:
    """Pack layer after layer, releasing the originals on the way: at its peak this takes the memory
    of the model and of its largest tensor."""
    body = model.model
    layers = tuple(_take_layer(kernels, layer, structure) for layer in body.layers)
    head = kernels.allocate(kernels.packed_numbers(structure.vocab, structure.hidden))
    kernels.pack(model.lm_head.weight, head)
    embedding = None if structure.is_tied else body.embed_tokens.weight.detach().contiguous()
    _release(model.lm_head)
    _release(body.embed_tokens)
    return Weights(layers, embedding, head, _float(body.norm.weight))


def _take_layer(kernels: Kernels, layer: Any, structure: Structure) -> LayerWeights:
    attention, mlp = layer.self_attn, layer.mlp
    heads = [attention.q_proj, attention.k_proj, attention.v_proj]
    halves = [mlp.gate_proj, mlp.up_proj]
    query_size = structure.query_heads * structure.head_dim
    sizes = [
        kernels.packed_numbers(sum(linear.out_features for linear in heads), structure.hidden),
        kernels.packed_numbers(structure.hidden, query_size),
        kernels.packed_numbers(2 * structure.intermediate, structure.hidden),
        kernels.packed_numbers(structure.hidden, structure.intermediate),
    ]
    # One allocation, in the order in which a step reads it.
    qkv, out, gate_up, down = torch.split(kernels.allocate(sum(sizes)), sizes)
    biases = {
        "qkv_bias": _merge(heads),
        "out_bias": _bias(attention.o_proj),
        "gate_up_bias": _alternate(halves),
        "down_bias": _bias(mlp.down_proj),
    }
    panel = 0
    for linear in heads:
        kernels.pack(linear.weight, qkv, first=panel)
        panel += linear.out_features // PANEL_ROWS
    kernels.pack(attention.o_proj.weight, out)
    for first, linear in enumerate(halves):
        kernels.pack(linear.weight, gate_up, first=first, every=2)
    kernels.pack(mlp.down_proj.weight, down)
    for linear in (*heads, *halves, attention.o_proj, mlp.down_proj):
        _release(linear)
    return LayerWeights(
        qkv,
        out,
        gate_up,
        down,
        **biases,
        attention_norm=_float(layer.input_layernorm.weight),
        mlp_norm=_float(layer.post_attention_layernorm.weight),
        query_norm=_float(attention.q_norm.weight) if structure.has_head_norms else None,
        key_norm=_float(attention.k_norm.weight) if structure.has_head_norms else None,
    )


def _release(module: nn.Module) -> None:
    module.weight = nn.Parameter(torch.empty(0, dtype=torch.bfloat16), requires_grad=False)


def _float(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float().contiguous()


def _bias(linear: nn.Linear) -> torch.Tensor | None:
    return None if linear.bias is None else _float(linear.bias)


def _merge(linears: Sequence[nn.Linear]) -> torch.Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    return torch.cat(
        [
            torch.zeros(linear.out_features) if linear.bias is None else _float(linear.bias)
            for linear in linears
        ]
    )


def _alternate(halves: Sequence[nn.Linear]) -> torch.Tensor | None:
    merged = _merge(halves)
    if merged is None:
        return None
    return merged.view(2, -1, PANEL_ROWS).transpose(0, 1).reshape(-1).contiguous()
