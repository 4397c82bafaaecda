"""Copies of whole contexts, for attention that reads no block tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import torch

from llmserve.engines.batching.compute.kv_cache import LayerShape

if TYPE_CHECKING:  # without Triton, `fits` is still needed
    from llmserve.engines.batching.compute.cuda.launch import CachedLayer, Rows

MAX_GATHERED_BYTES: Final = 256 * 2**20
"""Keys and values of one layer that a step may gather; longer contexts are read in their blocks."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Where the contexts of some rows are in the cache, one after another; the same for all layers.

    Attributes:
        starts: (num_rows + 1,) int32, where each context begins.
        blocks: (num_context,) int64.
        offsets: (num_context,) int64, within the block.
    """

    starts: torch.Tensor
    blocks: torch.Tensor
    offsets: torch.Tensor

    @classmethod
    def of(cls, rows: Rows, num_context: int, block_size: int) -> Self:
        """For rows whose contexts have `num_context` tokens in all. Never waits for the device."""
        lengths = rows.context_lengths
        starts = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
        numbers = torch.arange(rows.num_rows, device=lengths.device)
        row = torch.repeat_interleave(numbers, lengths, output_size=num_context)
        position = torch.arange(num_context, device=lengths.device) - starts[row]
        blocks = rows.block_tables[row, position // block_size].long()
        return cls(starts, blocks, position % block_size)

    def keys_and_values(self, layer: CachedLayer) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one layer, (num_context, kv_heads, head_dim) each; where they differ in width, the
        narrower ones are padded with zeros. Latents are expanded."""
        keys = layer.keys[self.blocks, :, self.offsets]
        latent = layer.variant.latent
        if latent is None:
            values = layer.values[self.blocks, :, self.offsets]
        else:
            keys, values = (each.transpose(0, 1) for each in latent.expand(keys[:, 0]))
        widest = max(keys.shape[-1], values.shape[-1])
        return _padded(keys, widest), _padded(values, widest)


def fits(num_context: int, shape: LayerShape, dtype: torch.dtype) -> bool:
    """Whether a layer's keys and values of so many tokens may be copied."""
    return num_context <= most_gathered(shape, dtype)


def most_gathered(shape: LayerShape, dtype: torch.dtype) -> int:
    """The most tokens for which `fits` is true."""
    shape = shape.expanded or shape
    # A layer that stores nothing has no heads.
    return MAX_GATHERED_BYTES // max(1, 2 * shape.kv_heads * shape.widest * dtype.itemsize)


def _padded(cells: torch.Tensor, width: int) -> torch.Tensor:
    missing = width - cells.shape[-1]
    return torch.nn.functional.pad(cells, (0, missing)) if missing else cells
