"""FlashAttention as torch ships it (`varlen_attn`), with the arguments of the installed version.

Version 2 computes 16-bit heads of up to 256 numbers on Ampere and later, without capped scores,
sinks and chunks. With version 3 or 4 activated it reads block tables, too. Keys and values have to
be of one width; a copy of them is padded.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from llmserve.engines.batching.compute.cuda.gather import Gather
from llmserve.engines.batching.compute.cuda.launch import CachedLayer, Rows


@dataclass(frozen=True, slots=True)
class Varlen:
    """`names_groups`: grouped heads need an argument; older versions recognize them by shape."""

    function: Any
    names_groups: bool

    @classmethod
    def of_torch(cls, device: torch.device) -> Self | None:
        """`None` if the device is too old, or torch too old to have it with windows."""
        if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8:
            return None
        try:
            from torch.nn.attention.varlen import varlen_attn
        except ImportError:
            return None
        return cls.of_function(varlen_attn)

    @classmethod
    def of_function(cls, function: Any) -> Self | None:
        """For a function with this signature."""
        taken = inspect.signature(function).parameters
        if not {"window_size", "scale"} <= taken.keys():
            return None
        return cls(function, "enable_gqa" in taken)

    def takes(self, query: torch.Tensor, layer: CachedLayer) -> bool:
        """Whether it can compute this, in contexts of a single chunk if the layer has chunks."""
        head_dim, variant = layer.expanded.widest, layer.variant
        return (
            query.dtype in (torch.bfloat16, torch.float16)
            and head_dim % 8 == 0
            and head_dim <= 256
            and variant.softcap is None
            and variant.sinks is None
        )

    def gathered(
        self, rows: Rows, layer: CachedLayer, gather: Gather, max_context: int
    ) -> torch.Tensor:
        """Rows of any length over a copy of their contexts."""
        keys, values = gather.keys_and_values(layer)
        query = torch.nn.functional.pad(rows.query, (0, keys.shape[-1] - rows.query.shape[-1]))
        rows = replace(rows, query=query)
        result = self._call(rows, layer, keys, values, gather.starts, max_context)
        latent = layer.variant.latent
        return result[..., : layer.values.shape[3] if latent is None else latent.value_dim]

    def paged(self, rows: Rows, layer: CachedLayer, max_context: int) -> torch.Tensor:
        """Rows of any length through the block table; needs version 3 or 4."""
        return self._call(
            rows,
            layer,
            # FlashAttention's pages are (block_size, kv_heads, head_dim); strides are enough.
            layer.keys.transpose(1, 2),
            layer.values.transpose(1, 2),
            None,
            max_context,
            seqused_k=rows.context_lengths,
            block_table=rows.block_tables,
        )

    def _call(
        self,
        rows: Rows,
        layer: CachedLayer,
        keys: torch.Tensor,
        values: torch.Tensor,
        context_starts: torch.Tensor | None,
        max_context: int,
        **paged: torch.Tensor,
    ) -> torch.Tensor:
        window = layer.variant.window
        groups = {"enable_gqa": layer.group(rows.query) > 1} if self.names_groups else {}
        return self.function(  # type: ignore[no-any-return]  # a tensor: no auxiliary one is asked
            rows.query,
            keys,
            values,
            rows.query_starts,
            context_starts,
            rows.max_query,
            max_context,
            scale=layer.variant.scale,
            # (tokens to the left, none to the right); queries are the end of their context
            window_size=(-1 if window is None else window - 1, 0),
            **groups,
            **paged,
        )
