"""The paged KV cache of one model.

keys[layer]    (num_blocks, kv_heads, block_size, head_dim), contiguous; values[layer] alike, but
               of their own width. Layers that share keys and values have the same tensors; of
               latents, values are a view of their keys.

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
    """What one layer stores for each token.

    Attributes:
        head_dim: numbers of a key.
        value_dim: numbers of a value; `None` for as many.
        shared_with: an earlier layer whose keys and values this one reads; it stores none.
        expanded: the keys and values that are made of what is stored, if that is latents. They are
            stored once: a value is the beginning of its key.
    """

    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    shared_with: int | None = None
    expanded: LayerShape | None = None

    @property
    def value_width(self) -> int:
        """Numbers of a value."""
        return self.head_dim if self.value_dim is None else self.value_dim

    @property
    def widest(self) -> int:
        """Numbers of a key or a value, whichever has more."""
        return max(self.head_dim, self.value_width)

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        """Keys and values together."""
        if self.shared_with is not None:
            return 0
        width = self.head_dim + (self.value_width if self.expanded is None else 0)
        return self.kv_heads * width * dtype.itemsize


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
        self.layers = tuple(layers)
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        for layer in self.layers:
            if layer.shared_with is not None:
                self.keys.append(self.keys[layer.shared_with])
                self.values.append(self.values[layer.shared_with])
                continue
            shape = (num_blocks, layer.kv_heads, block_size)
            self.keys.append(empty((*shape, layer.head_dim), dtype, device).zero_())
            if layer.expanded is not None:
                self.values.append(self.keys[-1][..., : layer.value_width])
                continue
            self.values.append(empty((*shape, layer.value_width), dtype, device).zero_())

    @property
    def num_tokens(self) -> int:
        """How many tokens there is room for."""
        return self.num_blocks * self.block_size

    @property
    def num_bytes(self) -> int:
        """Size of all keys and values, and of all states."""
        memory = {
            tensor.data_ptr(): tensor.nbytes
            for tensor in (*self.values, *self.keys)  # values may be a part of their keys
        }
        return sum(memory.values()) + (0 if self.states is None else self.states.num_bytes)

    def commit(self, rows: StateRows | None) -> None:
        """A step was computed; its new states belong to its sequences."""
        if rows is not None:
            assert self.states is not None, "such rows come from a pool"
            self.states.commit(rows)

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Store keys and values, (num_tokens, kv_heads, head_dim or value_dim), in slots,
        (num_tokens,), of a layer that shares no other's. Of latents only the keys are stored."""
        blocks = slots // self.block_size
        offsets = slots % self.block_size
        self.keys[layer][blocks, :, offsets] = keys
        if self.layers[layer].expanded is None:
            self.values[layer][blocks, :, offsets] = values
