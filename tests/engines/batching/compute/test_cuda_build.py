"""The kernels compile for the GPUs they are meant for, also on a machine that has none: without a
spill of registers, and within the shared memory that a program may have there."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is missing; pip install triton")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from llmserve.engines.batching.compute.cuda.kv_write import STRIDES, _write_kernel
from llmserve.engines.batching.compute.cuda.paged_decode import _reduce_kernel
from llmserve.engines.batching.compute.cuda.paged_kernel import (
    CHANGING_NUMBERS,
    SLICED_TENSORS,
    padded,
    paged_kernel,
)
from llmserve.engines.batching.compute.cuda.tiling import Tiling, decode_tiling, prefill_tiling

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

# KiB of shared memory that one program may have, by capability.
SHARED_KIB = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PLAIN = {"HAS_WINDOW": False, "HAS_CHUNK": False, "HAS_SOFTCAP": False, "HAS_SINKS": False}
WINDOW = PLAIN | {"HAS_WINDOW": True}
SOFTCAP = WINDOW | {"HAS_SOFTCAP": True}
SINKS = WINDOW | {"HAS_SINKS": True}
CHUNK = PLAIN | {"HAS_CHUNK": True}
# Head size (two where values have their own; of latents, also what is rotated), query heads for
# each KV head, type and variant of models that people run.
LLAMA_8B = (128, 4, "bf16", PLAIN)
LLAMA_1B = (64, 4, "bf16", PLAIN)
QWEN3 = (128, 2, "bf16", PLAIN)
QWEN_MOE = (128, 8, "bf16", PLAIN)
PHI = (96, 1, "bf16", PLAIN)
STABLELM = (80, 1, "bf16", PLAIN)
GEMMA2 = (256, 2, "bf16", SOFTCAP)
GPT_OSS = (64, 8, "bf16", SINKS)
IN_FLOAT32 = (128, 4, "fp32", WINDOW)
IN_FLOAT16 = (128, 4, "fp16", PLAIN)
SMALL_IN_FLOAT16 = (64, 4, "fp16", WINDOW)
GEMMA4 = (512, 8, "bf16", PLAIN)
FALCON_7B = (64, 71, "bf16", PLAIN)
LLAMA_4 = (128, 5, "bf16", CHUNK)
MIMO_V2 = ((192, 128), 16, "bf16", SINKS)
DEEPSEEK_V2_LITE = (("latent", 512, 64), 16, "bf16", PLAIN)
GLM_FLASH = (("latent", 512, 64), 20, "bf16", PLAIN)
MINICPM3 = (("latent", 256, 32), 40, "bf16", PLAIN)
# Each shape on several generations, each generation with several shapes.
BUILDS = [
    (75, IN_FLOAT16), (75, SMALL_IN_FLOAT16), (75, (256, 2, "fp16", PLAIN)),
    (75, (512, 8, "fp16", PLAIN)), (75, (128, 32, "fp16", PLAIN)), (75, (64, 71, "fp16", PLAIN)),
    (80, LLAMA_8B), (80, GEMMA2), (80, GPT_OSS), (80, IN_FLOAT32), (80, FALCON_7B),
    (86, QWEN_MOE), (86, LLAMA_1B), (86, PHI), (86, GEMMA4),
    (89, QWEN3), (89, STABLELM), (89, GEMMA2),
    (90, LLAMA_8B), (90, GPT_OSS), (90, GEMMA2), (90, PHI), (90, IN_FLOAT32), (90, IN_FLOAT16),
    (90, GEMMA4), (90, FALCON_7B),
    (90, LLAMA_4), (90, MIMO_V2), (90, DEEPSEEK_V2_LITE), (90, GLM_FLASH), (90, MINICPM3),
    (80, DEEPSEEK_V2_LITE), (80, MIMO_V2), (89, DEEPSEEK_V2_LITE), (89, MINICPM3),
    (100, QWEN_MOE), (100, GEMMA2), (100, GEMMA4), (100, GLM_FLASH), (120, DEEPSEEK_V2_LITE),
    (120, LLAMA_8B), (120, GPT_OSS), (120, GEMMA4),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _kept_builds(request: pytest.FixtureRequest) -> Iterator[None]:
    """What was built before is not built again. Triton names a build by everything that it depends
    on: the kernel's source, the options, Triton itself. What no test asked for is removed."""
    assert request.config.cache is not None
    folder, begun = request.config.cache.mkdir("triton"), time.time()
    with triton.knobs.cache.scope(), triton.knobs.nvidia.scope():
        triton.knobs.cache.dir = str(folder)
        triton.knobs.nvidia.dump_ptxas_log = True
        yield
    for entry in folder.iterdir():
        if entry.stat().st_mtime < begun:
            shutil.rmtree(entry)


def build(kernel: Any, capability: int, element: str, constants: dict[str, Any], **options: int):
    """Compile with what is known of the arguments in service: most pointers are aligned."""
    pointers = {
        **dict.fromkeys(("partial_mixed", "partial_peak", "partial_total"), "*fp32"),
        **dict.fromkeys(("query_starts", "context_lengths", "block_tables"), "*i32"),
        **dict.fromkeys(("query", "keys", "values", "result", "sinks"), f"*{element}"),
        **dict.fromkeys(("cached_keys", "cached_values"), f"*{element}"),
        "slots": "*i64",
        "scale": "fp32",
        "softcap": "fp32",
    }
    types = {
        name: "constexpr" if name in constants else pointers.get(name, "i32")
        for name in kernel.arg_names
    }
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, (name, kind) in enumerate(types.items())
        if kind.startswith("*") and name not in SLICED_TENSORS
    }
    source = ASTSource(kernel, types, constants, aligned)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    if told.getvalue():
        assembler_log(built).write_text(told.getvalue())
    os.utime(assembler_log(built).parent)  # it is of use
    return built


def assembler_log(built: CompiledKernel) -> Path:
    """The log lies beside what was built."""
    return Path(next(iter(built.metadata_group.values()))).with_name("assembler.log")


def spilled_bytes(built: CompiledKernel) -> int:
    """What the assembler had to put into memory for lack of registers."""
    log = assembler_log(built).read_text()
    ((stores, loads),) = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    return int(stores) + int(loads)


Head = int | tuple[int, int] | tuple[str, int, int]
Shape = tuple[Head, int, str, dict[str, bool]]


def widths(head: Head) -> tuple[int, int, int]:
    """Of a key, of a value, and of what is rotated in keys that begin with their values."""
    if isinstance(head, int):
        return head, head, 0
    if len(head) == 2:
        return *head, 0
    _, rank, rotated = head
    return rank + rotated, rank, rotated


def check(tiling: Tiling, capability: int, shape: Shape, **constants: Any) -> None:
    head, group, element, variant = shape
    head_dim, value_dim, tail = widths(head)
    built = build(
        paged_kernel,
        capability,
        element,
        {
            "KV_HEADS": 1 if tail else 8,
            "GROUP": group,
            "HEAD_DIM": head_dim,
            "PADDED_DIM": padded(head_dim - tail),
            "TAIL_DIM": tail,
            "PADDED_TAIL": padded(tail) if tail else 0,
            "VALUE_DIM": value_dim,
            "PADDED_VALUE": padded(value_dim),
            "VALUE_STRIDE": head_dim if tail else value_dim,
            "BLOCK_SIZE": 16,
            "ROWS": tiling.rows,
            "TILE": tiling.tokens,
            **variant,
            **constants,
        },
        num_warps=tiling.warps,
        num_stages=tiling.stages,
    )
    assert built.metadata.shared <= SHARED_KIB[capability] * 1024
    assert spilled_bytes(built) == 0


@pytest.mark.parametrize(("capability", "shape"), BUILDS)
def test_decode_fits(capability: int, shape: Shape) -> None:
    head, group, element, _ = shape
    tiling = decode_tiling(capability // 10, group, max(widths(head)), DTYPES[element])
    check(tiling, capability, shape, SPLITS=16, IS_DECODE=True)


@pytest.mark.parametrize(("capability", "shape"), BUILDS)
def test_prefill_fits(capability: int, shape: Shape) -> None:
    head, _, element, _ = shape
    _, value_dim, _ = widths(head)
    tiling = prefill_tiling(capability // 10, max(widths(head)), value_dim, DTYPES[element])
    check(tiling, capability, shape, SPLITS=1, IS_DECODE=False)


@pytest.mark.parametrize("capability", [75, 90])
def test_reduction_and_write_compile(capability: int) -> None:
    build(
        _reduce_kernel,
        capability,
        "fp16",
        {"VALUE_DIM": 80, "PADDED_VALUE": 128, "SPLITS": 64, "HAS_SINKS": True},
        num_warps=4,
    )
    write = {"UNIT": 16, "KV_HEADS": 8, "BLOCK_SIZE": 16, "WIDTH": 1024}
    write |= {"HEAD_DIM": 80, "VALUE_DIM": 80}
    built = build(_write_kernel, capability, "fp16", write, num_warps=4)
    assert re.search(r"ld\.global\S*\.v[48]\.b(16|32)", built.asm["ptx"]), "read in whole vectors"


def test_what_changes_with_a_batch_is_named_as_the_kernels_name_it() -> None:
    assert {*CHANGING_NUMBERS, *SLICED_TENSORS} <= set(paged_kernel.arg_names)
    assert set(STRIDES) <= set(_write_kernel.arg_names)
