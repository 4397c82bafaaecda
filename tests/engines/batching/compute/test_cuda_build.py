"""The kernels compile for the GPUs they are meant for, also on a machine that has none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is missing; pip install triton")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from llmserve.engines.batching.compute.cuda.kv_write import _write_kernel
from llmserve.engines.batching.compute.cuda.paged_decode import _reduce_kernel
from llmserve.engines.batching.compute.cuda.paged_kernel import padded, paged_kernel, tile_tokens
from llmserve.engines.batching.compute.cuda.paged_prefill import query_tile

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

AMPERE, HOPPER, BLACKWELL = 80, 90, 100
# What one program may hold on the smallest of Ampere, Ada and consumer Blackwell.
SHARED_BYTES = 99 * 1024
POINTERS = {
    **dict.fromkeys(("partial_mixed", "partial_peak", "partial_total"), "*fp32"),
    **dict.fromkeys(("query_starts", "context_lengths", "block_tables"), "*i32"),
    **dict.fromkeys(("query", "keys", "values", "result", "sinks"), "*{}"),
    **dict.fromkeys(("cached_keys", "cached_values"), "*{}"),
    "slots": "*i64",
    "scale": "fp32",
    "softcap": "fp32",
}
PLAIN = {"HAS_WINDOW": False, "HAS_SOFTCAP": False, "HAS_SINKS": False}
EVERYTHING = dict.fromkeys(PLAIN, True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def build(kernel: Any, capability: int, element: str, constants: dict[str, Any], **options: int):
    """Compile with pointers and strides that are multiples of 16, as PyTorch gives them."""
    types = {
        name: "constexpr" if name in constants else POINTERS.get(name, "i32").format(element)
        for name in kernel.arg_names
    }
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, (name, kind) in enumerate(types.items())
        if kind.startswith("*") or name.endswith("stride")
    }
    source = ASTSource(kernel, types, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def head_constants(head_dim: int, group: int, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "KV_HEADS": 8,
        "GROUP": group,
        "HEAD_DIM": head_dim,
        "PADDED_DIM": padded(head_dim),
        "BLOCK_SIZE": 16,
        "TILE": tile_tokens(head_dim, dtype),
    }


@pytest.mark.parametrize(
    ("capability", "element", "head_dim", "group", "options"),
    [
        (AMPERE, "bf16", 128, 4, PLAIN),
        (HOPPER, "bf16", 80, 1, EVERYTHING),
        (BLACKWELL, "fp16", 256, 2, EVERYTHING),
        (HOPPER, "fp32", 128, 8, EVERYTHING),
    ],
)
def test_decode_compiles_and_fits(
    capability: int, element: str, head_dim: int, group: int, options: dict[str, bool]
) -> None:
    dtype = torch.float32 if element == "fp32" else torch.bfloat16
    shape = {**head_constants(head_dim, group, dtype), **options, "ROWS": padded(group)}
    built = build(
        paged_kernel,
        capability,
        element,
        {**shape, "SPLITS": 16, "IS_DECODE": True},
        num_warps=4,
        num_stages=5,
    )
    assert built.metadata.shared <= SHARED_BYTES


@pytest.mark.parametrize(
    ("capability", "element", "head_dim", "options"),
    [
        (AMPERE, "bf16", 128, EVERYTHING),
        (HOPPER, "bf16", 256, PLAIN),
        (BLACKWELL, "fp16", 64, EVERYTHING),
        (HOPPER, "fp32", 80, EVERYTHING),
    ],
)
def test_prefill_compiles_and_fits(
    capability: int, element: str, head_dim: int, options: dict[str, bool]
) -> None:
    dtype = torch.float32 if element == "fp32" else torch.bfloat16
    rows = query_tile(head_dim, dtype)
    shape = {**head_constants(head_dim, 4, dtype), **options, "ROWS": rows}
    built = build(
        paged_kernel,
        capability,
        element,
        {**shape, "SPLITS": 1, "IS_DECODE": False},
        num_warps=8 if rows == 128 else 4,
        num_stages=3,
    )
    assert built.metadata.shared <= SHARED_BYTES


def test_reduction_and_write_compile() -> None:
    build(
        _reduce_kernel,
        HOPPER,
        "bf16",
        {"HEAD_DIM": 80, "PADDED_DIM": 128, "SPLITS": 64, "HAS_SINKS": True},
        num_warps=4,
    )
    build(
        _write_kernel,
        HOPPER,
        "bf16",
        {"KV_HEADS": 8, "HEAD_DIM": 80, "BLOCK_SIZE": 16, "WIDTH": 1024},
        num_warps=4,
    )
