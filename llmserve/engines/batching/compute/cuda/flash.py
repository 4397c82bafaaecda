"""FlashAttention as torch ships it (`varlen_attn`), and its paged form where version 3 or 4 is
active. What it does not take is left to our own kernels."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Final, Self

import torch
from loguru import logger
from torch.nn import attention

from llmserve.engines.agreement import agree
from llmserve.engines.batching.compute.attention import Variant, attend_row
from llmserve.engines.batching.compute.cuda.launch import Layer, Rows

# The version, its package, and the compute capability whose paged caches it reads.
PAGED: Final = (("FA3", "flash_attn_interface", 9), ("FA4", "flash_attn.cute.interface", 10))
# Keys and values of one layer, gathered for a step; longer contexts stay in their blocks.
MAX_GATHERED_BYTES: Final = 256 * 2**20


def takes(query: torch.Tensor, variant: Variant) -> bool:
    """Whether `varlen_attn` computes this: 16-bit, from Ampere on, neither softcap nor sinks."""
    head_dim = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and variant.softcap is None
        and variant.sinks is None
        and torch.cuda.get_device_capability(query.device)[0] >= 8
        and _varlen_attn() is not None
    )


def activate_paged(device: torch.device, block_size: int) -> str | None:
    """Make FlashAttention 3 or 4 this process's own where it is installed and reads blocks of this
    size rightly; returns its name. It replaces torch's for every model of the process.
    """
    if active := paged_version(device):
        return active
    for name, package, major in PAGED:
        if torch.cuda.get_device_capability(device)[0] == major and _is_installed(package):
            try:
                attention.activate_flash_attention_impl(name)
                _try_paged(device, block_size)
            # Whatever a package of somebody else's raises: we have kernels of our own.
            except Exception as error:
                logger.warning("{} is installed and not used: {}", name, error)
                attention.restore_flash_attention_impl(_raise_warn=False)
            else:
                return name
    return None


@torch.inference_mode()
def _try_paged(device: torch.device, block_size: int) -> None:
    """One row of prefill and one of decode.

    Raises:
        ValueError: the results are not those of plain torch.
    """
    variant = Variant(scale=0.125)
    contexts, starts = (block_size + 3, 3 * block_size), (0, block_size + 3, block_size + 4)
    cells = torch.randn(
        2, 8, 2, block_size, 64, dtype=torch.bfloat16, device=device
    )  # keys and values of 8 blocks
    query = torch.randn(starts[-1], 4, 64, dtype=torch.bfloat16, device=device)
    tables = torch.tensor([[5, 2, 0], [7, 1, 4]], dtype=torch.int32, device=device)
    rows = Rows(
        query,
        torch.tensor(starts, dtype=torch.int32, device=device),
        torch.tensor(contexts, dtype=torch.int32, device=device),
        tables,
        starts[1],
    )
    actual = paged_flash(rows, Layer(cells[0], cells[1], variant), max(contexts))
    for row, context in enumerate(contexts):
        own = slice(starts[row], starts[row + 1])
        # (2, kv_heads, context, head_dim)
        context_cells = cells[:, tables[row].long()].transpose(1, 2).flatten(2, 3)[:, :, :context]
        expected = attend_row(query[own], context_cells[0], context_cells[1], variant)
        if not agree(expected.float(), actual[own].float(), query.dtype):
            raise ValueError("its results are not those of plain torch")


def paged_version(device: torch.device) -> str | None:
    """The active FlashAttention that reads a block table on this device, if there is one."""
    current = getattr(attention, "current_flash_attention_impl", lambda: None)()
    if current is None or device.type != "cuda":
        return None
    major = torch.cuda.get_device_capability(device)[0]
    return next((name for name, _, wanted in PAGED if name == current and wanted == major), None)


def paged_flash(rows: Rows, layer: Layer, max_context: int) -> torch.Tensor:
    """Rows of any length through the block table; needs `paged_version`."""
    return _call(
        rows,
        layer,
        # FlashAttention's pages are (block_size, kv_heads, head_dim); strides are enough for it.
        layer.keys.transpose(1, 2),
        layer.values.transpose(1, 2),
        None,
        max_context,
        seqused_k=rows.context_lengths,
        block_table=rows.block_tables,
    )


@dataclass(frozen=True, slots=True)
class Gather:
    """Where the contexts of some rows lie, one after the other; the same for all layers.

    Attributes:
        starts: (num_rows + 1,) int32, where each context begins.
        blocks: (num_context,) int64.
        offsets: (num_context,) int64, in the block.
    """

    starts: torch.Tensor
    blocks: torch.Tensor
    offsets: torch.Tensor

    @classmethod
    def of(cls, rows: Rows, block_size: int) -> Self:
        """Waits for the device once, to learn how long the contexts are together."""
        lengths = rows.context_lengths
        total = int(lengths.sum())
        starts = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
        numbers = torch.arange(rows.num_rows, device=lengths.device)
        row = torch.repeat_interleave(numbers, lengths, output_size=total)
        position = torch.arange(total, device=lengths.device) - starts[row]
        blocks = rows.block_tables[row, position // block_size].long()
        return cls(starts, blocks, position % block_size)

    def fits(self, layer: Layer) -> bool:
        """Whether the copies of keys and values may be made."""
        token_bytes = 2 * layer.kv_heads * layer.keys.shape[3] * layer.keys.dtype.itemsize
        return self.blocks.shape[0] * token_bytes <= MAX_GATHERED_BYTES


def gathered_flash(rows: Rows, layer: Layer, gather: Gather, max_context: int) -> torch.Tensor:
    """Rows of any length over a copy of their contexts, (num_context, kv_heads, head_dim)."""
    keys = layer.keys[gather.blocks, :, gather.offsets]
    values = layer.values[gather.blocks, :, gather.offsets]
    return _call(rows, layer, keys, values, gather.starts, max_context)


def _call(
    rows: Rows,
    layer: Layer,
    keys: torch.Tensor,
    values: torch.Tensor,
    context_starts: torch.Tensor | None,
    max_context: int,
    **paged: torch.Tensor,
) -> torch.Tensor:
    window = layer.variant.window
    varlen_attn = _varlen_attn()
    assert varlen_attn is not None, "`takes` said no"
    return varlen_attn(  # type: ignore[no-any-return]  # tensor, as no auxiliary one is asked for
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
        enable_gqa=layer.group(rows.query) > 1,
        **paged,
    )


@cache
def _varlen_attn() -> Any:
    """The function, or `None` where torch is too old to give it windows and grouped heads."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    taken = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"window_size", "enable_gqa", "scale"} <= taken.keys() else None


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
