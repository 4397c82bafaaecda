"""The paged KV cache of one model.

keys[layer]    (num_blocks, kv_heads, block_size, head_dim), contiguous; values[layer] alike

block 7   head 0   token 112 | 113 | ... | 127      a head of a block is contiguous, so that
          head 1   token 112 | 113 | ... | 127      attention reads it in one sweep
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.batching.compute.huge_pages import empty
from llmserve.engines.batching.compute.state_pool import StatePool
from llmserve.engines.batching.compute.state_rows import StateRows


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer stores for each token."""

    kv_heads: int
    head_dim: int

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        """Keys and values together."""
        return 2 * self.kv_heads * self.head_dim * dtype.itemsize


NO_ATTENTION: Final = LayerShape(0, 0)


class KVCache:
    """Keys and values of all layers in blocks of `block_size` tokens, and a pool of recurrent
    states if the model has them."""

    def __init__(
        self,
        layers: Iterable[LayerShape],
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        states: StatePool | None = None,
    ) -> None:
        self.states = states
        self.num_blocks = num_blocks
        self.block_size = block_size
        shapes = [(num_blocks, layer.kv_heads, block_size, layer.head_dim) for layer in layers]
        self.keys = [empty(shape, dtype, device).zero_() for shape in shapes]
        self.values = [empty(shape, dtype, device).zero_() for shape in shapes]

    @property
    def num_tokens(self) -> int:
        """How many tokens there is room for."""
        return self.num_blocks * self.block_size

    @property
    def num_bytes(self) -> int:
        """Size of all keys and values, and of all states."""
        states = 0 if self.states is None else self.states.num_bytes
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values)) + states

    def commit(self, rows: StateRows | None) -> None:
        """A step was computed; its new states belong to its sequences."""
        if rows is not None:
            assert self.states is not None, "such rows come from a pool"
            self.states.commit(rows)

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Store keys and values, (num_tokens, kv_heads, head_dim), in slots, (num_tokens,)."""
        blocks = slots // self.block_size
        offsets = slots % self.block_size
        self.keys[layer][blocks, :, offsets] = keys
        self.values[layer][blocks, :, offsets] = values
