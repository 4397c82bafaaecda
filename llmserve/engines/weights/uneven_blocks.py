"""FP8 weights whose sides are no multiples of a block (DeepSeek's `kv_a_proj_with_mqa`): the last
blocks are cut. transformers takes all blocks for equally large, which fails or, worse, does not: so
these are filled up, and cut afterwards.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer


class UnevenDequantize(Fp8Dequantize):
    """Expands weights of any size."""

    def _dequantize_one(
        self,
        quantized: torch.Tensor,  # (..., rows, columns)
        scales: torch.Tensor,  # (..., rows of blocks, columns of blocks)
        output_dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        size, grid = tuple(quantized.shape[-2:]), tuple(scales.shape[-2:])
        block = self.hf_quantizer.quantization_config.weight_block_size or size
        whole = tuple(count * side for count, side in zip(grid, block, strict=False))
        is_of_such_blocks = len(grid) == 2 and grid == tuple(
            -(-length // side) for length, side in zip(size, block, strict=True)
        )
        is_cut = is_of_such_blocks and whole != size
        if is_cut:
            filled = quantized.new_zeros((*quantized.shape[:-2], *whole))
            filled[..., : size[0], : size[1]] = quantized
            quantized = filled
        expanded: torch.Tensor = super()._dequantize_one(quantized, scales, output_dtype)
        if not is_cut:
            return expanded
        return expanded[..., : size[0], : size[1]].contiguous()


class UnevenQuantizer(FineGrainedFP8HfQuantizer):
    """transformers' own, but for this."""

    def get_load_operations(self) -> dict[str, Any]:
        """What expands weights while they are read."""
        return {"dequantize": UnevenDequantize}


def take_uneven_blocks() -> None:
    """From now on transformers' loaders expand them."""
    for method in ("fp8", "mxfp8"):
        AUTO_QUANTIZER_MAPPING[method] = UnevenQuantizer
