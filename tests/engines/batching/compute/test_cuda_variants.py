"""Triton compiles nothing while requests wait: after load no batch asks for a variant of a kernel
that was not made. Kernels are not run here; what they would be compiled for is written down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("triton", reason="triton is missing; pip install triton")

from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from llmserve.engines.batching.compute.attention import Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.attention import Chip, CudaAttention
from llmserve.engines.batching.compute.cuda.decode_buffers import DecodeBuffers, buckets
from llmserve.engines.batching.compute.cuda.kv_write import CudaKVCache
from llmserve.engines.batching.compute.cuda.prompt_buffers import PromptBuffers, prompt_buckets
from llmserve.engines.batching.compute.cuda.splits import all_splits
from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.batching.compute.latent import Latent
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence

BLOCK_SIZE = 16
MAX_ROWS = 12
MAX_CONTEXT = 40_000
CPU = torch.device("cpu")
Variants = set[tuple[Any, ...]]


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> Variants:
    """What Triton would have compiled so far, for an H100."""
    compiled: Variants = set()
    backend = make_backend(GPUTarget("cuda", 90, 32))
    binders: dict[str, Any] = {}

    def run(self: JITFunction[Any], *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        name = self.fn.__name__
        if name not in binders:
            binders[name] = create_function_from_signature(self.signature, self.params, backend)
        _, specialization, options = binders[name](*args, **kwargs)
        compiled.add((name, str(specialization), str(sorted(options.items()))))

    monkeypatch.setattr(JITFunction, "run", run)
    return compiled


class Model:
    """Layers of one head shape that attend in several ways, and what a step does with them."""

    def __init__(self, shape: LayerShape, group: int, dtype: torch.dtype) -> None:
        self.shape = shape
        self.query_heads = shape.kv_heads * group
        self.dtype = dtype
        sinks = torch.zeros(self.query_heads, dtype=dtype)
        windows = [Variant(0.1, window=window) for window in (None, 1, 4096)]
        latent = None
        if shape.expanded is not None:
            rank, rotated = shape.value_width, shape.head_dim - shape.value_width
            heads, value_dim = shape.expanded.kv_heads, shape.expanded.value_width
            latent = Latent(
                torch.zeros(heads, shape.expanded.head_dim - rotated, rank, dtype=dtype),
                torch.zeros(heads, rank, value_dim, dtype=dtype),
            )
        self.variants = [*windows, Variant(0.1, sinks=sinks), Variant(0.1, chunk=1)]
        self.variants = [replace(variant, latent=latent) for variant in self.variants]
        self.attention = CudaAttention(CPU, chip=Chip(132, 9))
        self.cache = CudaKVCache(
            [shape] * len(self.variants),
            num_blocks=4,
            block_size=BLOCK_SIZE,
            dtype=dtype,
            device=CPU,
        )

    def step(self, batch: Batch, *, is_turned: bool) -> None:
        """As models hand it over: heads before tokens and turned, or as a view of one product."""
        tokens, heads, kv_heads = len(batch.token_ids), self.query_heads, self.shape.kv_heads
        asked = (self.shape.expanded or self.shape).head_dim
        for layer, variant in enumerate(self.variants):
            if is_turned:
                widths = (asked, self.shape.head_dim, self.shape.value_width)
                query, keys, values = (
                    torch.empty(n, tokens, width, dtype=self.dtype).transpose(0, 1)
                    for n, width in zip((heads, kv_heads, kv_heads), widths, strict=True)
                )
            else:
                whole = torch.empty(
                    tokens, heads + 2 * kv_heads, self.shape.head_dim, dtype=self.dtype
                )
                query, keys, values = whole.split((heads, kv_heads, kv_heads), dim=1)
                query = query[..., :asked]
                if self.shape.value_dim is not None:  # the rest of what keys are made of, too
                    both = torch.empty(tokens, kv_heads, 2 * self.shape.widest, dtype=self.dtype)
                    values = both[..., -self.shape.value_dim :]
            self.cache.write(layer, batch.slots, keys, values)
            self.attention.attend(self.cache, layer, batch, query, variant)

    def load(self) -> None:
        """What happens before the first request: a trial, all variants, graphs."""
        for is_turned in (True, False):
            self.step(batch_of([(3, 1), (40, 7)]), is_turned=is_turned)
        self.attention.compile_all(MAX_ROWS, MAX_CONTEXT)
        buffers = DecodeBuffers(buckets(MAX_ROWS, MAX_CONTEXT), 8, CPU)
        for bucket in buffers.buckets:
            self.step(buffers.view(bucket), is_turned=True)
        prompts = PromptBuffers(prompt_buckets(MAX_ROWS, MAX_CONTEXT, 256), 8, CPU)
        for each in prompts.buckets:
            self.step(prompts.view(each), is_turned=True)


def batch_of(rows: list[tuple[int, int]]) -> Batch:
    """Rows of (context, new tokens), all in the same few blocks."""
    parts = [
        Slice(Sequence([1] * c, blocks=[0] * -(-c // BLOCK_SIZE)), c - n, n, True) for c, n in rows
    ]
    return Batch.from_plan(
        StepPlan(tuple(sorted(parts, key=lambda part: part.length > 1))), BLOCK_SIZE, CPU
    )


SHAPES = [
    pytest.param((LayerShape(8, 128), 4, torch.bfloat16), id="llama-8b"),
    pytest.param((LayerShape(3, 64), 3, torch.bfloat16), id="smollm2"),
    pytest.param((LayerShape(2, 80), 1, torch.float16), id="80"),
    pytest.param((LayerShape(1, 20), 3, torch.float32), id="20"),
    pytest.param((LayerShape(3, 5), 3, torch.bfloat16), id="5"),
    pytest.param((LayerShape(16, 192, 128), 1, torch.bfloat16), id="expanded"),
    pytest.param(
        (LayerShape(1, 576, 512, expanded=LayerShape(16, 192, 128)), 16, torch.bfloat16),
        id="deepseek-v2-lite",
    ),
]


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest, variants: Variants) -> Model:
    made = Model(*request.param)
    made.load()
    return made


@st.composite
def row(draw: st.DrawFn) -> tuple[int, int]:
    context = draw(st.integers(1, 300) | st.sampled_from((5000, MAX_CONTEXT)))
    return context, draw(st.sampled_from((1, 1, min(context, 200), max(1, context // 99))))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(row(), min_size=1, max_size=MAX_ROWS), is_turned=st.booleans())
def test_no_batch_wants_a_variant_that_load_did_not_make(
    model: Model, variants: Variants, rows: list[tuple[int, int]], is_turned: bool
) -> None:
    made = set(variants)
    model.step(batch_of(rows), is_turned=is_turned)
    assert variants == made


def test_load_makes_few_variants(variants: Variants) -> None:
    Model(LayerShape(8, 128), 4, torch.bfloat16).load()
    names = [name for name, *_ in variants]
    splits = all_splits(MAX_ROWS, 8, 132, MAX_CONTEXT)
    # Plain, window, sinks and chunk, for each number of splits and for prompts.
    assert names.count("paged_kernel") == 4 * (len(splits) + 1)
    assert names.count("_write_kernel") == 1
