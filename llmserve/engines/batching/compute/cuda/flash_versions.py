"""FlashAttention 3 and 4, separate packages that replace torch's version 2 if they are installed;
only these read block tables."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import torch
from loguru import logger
from torch.nn import attention

from llmserve.engines.batching.compute.attention import Variant, attend_row
from llmserve.engines.batching.compute.cuda.launch import CachedLayer, Rows
from llmserve.engines.batching.compute.cuda.varlen import Varlen
from llmserve.engines.weights.agreement import agree

# The version, its package, and the compute capability whose paged caches it reads.
PAGED: Final = (("FA3", "flash_attn_interface", 9), ("FA4", "flash_attn.cute.interface", 10))


def activate_paged(device: torch.device, varlen: Varlen, block_size: int) -> str | None:
    """Activate version 3 or 4 if it is installed and reads blocks of this size correctly; returns
    its name. It replaces torch's version for every model of the process.
    """
    if active := paged_version(device):
        return active
    for name, package, major in PAGED:
        if torch.cuda.get_device_capability(device)[0] == major and _is_installed(package):
            try:
                attention.activate_flash_attention_impl(name)
                _try_paged(device, varlen, block_size)
            # A foreign package may raise anything, and we have kernels of our own.
            except Exception as error:
                logger.warning("{} is installed and not used: {}", name, error)
                attention.restore_flash_attention_impl(_raise_warn=False)
            else:
                return name
    return None


def paged_version(device: torch.device) -> str | None:
    """The active version that reads a block table on this device, if there is one."""
    current = getattr(attention, "current_flash_attention_impl", lambda: None)()
    if current is None or device.type != "cuda":
        return None
    major = torch.cuda.get_device_capability(device)[0]
    return next((name for name, _, wanted in PAGED if name == current and wanted == major), None)


@torch.inference_mode()
def _try_paged(device: torch.device, varlen: Varlen, block_size: int) -> None:
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
    actual = varlen.paged(rows, CachedLayer(cells[0], cells[1], variant), max(contexts))
    for row, context in enumerate(contexts):
        own = slice(starts[row], starts[row + 1])
        # (2, kv_heads, context, head_dim)
        context_cells = cells[:, tables[row].long()].transpose(1, 2).flatten(2, 3)[:, :, :context]
        expected = attend_row(query[own], context_cells[0], context_cells[1], variant)
        if not agree(expected.float(), actual[own].float(), query.dtype):
            raise ValueError("its results are not those of plain torch")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
