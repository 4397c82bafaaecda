"""The Triton kernels give what plain torch gives: on a GPU with `pytest -m gpu`, and without one in
Triton's interpreter, where `test_cuda_interpreter` starts this file once more."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

import pytest
import torch

pytest.importorskip("triton", reason="triton is missing; pip install triton")

from llmserve.engines.batching.compute.attention import TorchAttention, Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.attention import Chip, CudaAttention
from llmserve.engines.batching.compute.cuda.kv_write import CudaKVCache
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.latent import Latent

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
# The interpreter takes bfloat16 for integers in a matrix product.
TARGETS = [
    pytest.param("cuda", torch.bfloat16, id="cuda-bfloat16", marks=ON_GPU),
    pytest.param("cuda", torch.float16, id="cuda-float16", marks=ON_GPU),
    pytest.param("cuda", torch.float32, id="cuda-float32", marks=ON_GPU),
]
# Types change what a kernel computes, not which cells it reads: the slow interpreter takes one.
SHAPE_TARGETS = list(TARGETS)
if IS_INTERPRETED:
    SHAPE_TARGETS += [pytest.param("cpu", torch.float32, id="interpreted-float32")]
    TARGETS += [
        pytest.param("cpu", torch.float32, id="interpreted-float32"),
        pytest.param("cpu", torch.float16, id="interpreted-float16"),
    ]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
# Where variants are compared. Other tests have all numbers of heads.
KV_HEADS = 1 if IS_INTERPRETED else 2
# KV heads, query heads for each, head size
HEADS = [(2, 1, 128), (1, 3, 64), (2, 4, 80), (1, 8, 128), (1, 4, 8), (1, 20, 64), (1, 2, 256)]
VARIANTS = [
    pytest.param({}, id="plain"),
    pytest.param({"window": 1}, id="window-1"),
    pytest.param({"window": 20}, id="window-20"),
    pytest.param({"softcap": 2.0}, id="softcap"),
    pytest.param({"sinks": True}, id="sinks"),
    pytest.param({"chunk": 20}, id="chunk-20"),
    pytest.param({"window": 20, "softcap": 2.0, "sinks": True}, id="everything"),
]
BLOCK_SIZE = 16
# Around the edges of a block and of a tile, and several tiles.
DECODE_CONTEXTS = (1, 15, 16, 17, 130)


@dataclass
class Case:
    """Rows over a cache whose every other cell is poison."""

    cache: KVCache
    batch: Batch
    query: torch.Tensor

    def check(self, attention: CudaAttention, variant: Variant) -> torch.Tensor:
        expected = TorchAttention().attend(self.cache, 0, self.batch, self.query, variant)
        actual = attention.attend(self.cache, 0, self.batch, self.query, variant)
        assert actual.dtype == expected.dtype
        tolerance = TOLERANCE[expected.dtype]
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
        return actual


def make_case(
    rows: list[tuple[int, int]],  # (context, new tokens)
    *,
    device: str,
    dtype: torch.dtype,
    kv_heads: int,
    group: int,
    head_dim: int,
    shape: LayerShape | None = None,
) -> Case:
    """Blocks lie in no order, with blocks of nobody between them."""
    generator = torch.Generator().manual_seed(0)
    used = [-(-context // BLOCK_SIZE) for context, _ in rows]
    num_blocks = 2 * sum(used) + 1
    cache = KVCache(
        [shape or LayerShape(kv_heads, head_dim)],
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        dtype=dtype,
        device=torch.device(device),
    )
    cache.keys[0].fill_(torch.nan)
    cache.values[0].fill_(torch.nan)
    free = (torch.randperm(num_blocks - 1, generator=generator) + 1).tolist()
    tables = torch.zeros(len(rows), max(used), dtype=torch.int32)
    for row, (context, _) in enumerate(rows):
        tables[row, : used[row]] = torch.tensor([free.pop() for _ in range(used[row])])
        for token in range(context):
            block = int(tables[row, token // BLOCK_SIZE])
            for cells in (cache.keys[0], cache.values[0]):
                cell = torch.randn(kv_heads, cells.shape[3], generator=generator)
                cells[block, :, token % BLOCK_SIZE] = cell.to(device, dtype)
    lengths = torch.tensor([length for _, length in rows])
    starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    num_tokens = int(starts[-1])
    nothing = torch.zeros(num_tokens, dtype=torch.int64)
    # As models make it: heads before tokens, then turned.
    query = torch.randn(kv_heads * group, num_tokens, head_dim, generator=generator)
    batch = Batch(
        token_ids=nothing,
        positions=nothing,
        slots=nothing,
        query_starts=starts.to(device),
        context_lengths=torch.tensor([c for c, _ in rows], dtype=torch.int32, device=device),
        block_tables=tables.to(device),
        sampled=nothing,
        num_decode=sum(1 for _, length in rows if length == 1),
        max_query=int(lengths.max()),
        max_context=max(context for context, _ in rows),
        prefill_context=sum(context for context, length in rows if length > 1),
    )
    return Case(cache, batch, query.to(device, dtype).transpose(0, 1))


def make_variant(options: dict[str, object], query: torch.Tensor) -> Variant:
    options = dict(options)
    if options.pop("sinks", False):
        options["sinks"] = torch.linspace(-2, 3, query.shape[1]).to(query.device, query.dtype)
    return Variant(scale=0.3, **options)  # type: ignore[arg-type]


def make_attention(device: str, processors: int) -> CudaAttention:
    capability = 9 if device == "cpu" else torch.cuda.get_device_capability()[0]
    return CudaAttention(torch.device(device), chip=Chip(processors, capability))


@pytest.mark.parametrize(("device", "dtype"), TARGETS)
@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("processors", [1, 16], ids=["whole", "split"])
def test_decode_is_equal_to_plain_torch_in_every_variant(
    device: str, dtype: torch.dtype, options: dict[str, object], processors: int
) -> None:
    case = make_case(
        [(context, 1) for context in DECODE_CONTEXTS],
        device=device,
        dtype=dtype,
        kv_heads=KV_HEADS,
        group=3,
        head_dim=64,
    )
    case.check(make_attention(device, processors), make_variant(options, case.query))


@pytest.mark.parametrize(("device", "dtype"), SHAPE_TARGETS)
@pytest.mark.parametrize(("kv_heads", "group", "head_dim"), HEADS)
def test_decode_takes_any_number_of_heads_of_any_size(
    device: str, dtype: torch.dtype, kv_heads: int, group: int, head_dim: int
) -> None:
    case = make_case(
        [(1, 1), (45, 1)],
        device=device,
        dtype=dtype,
        kv_heads=kv_heads,
        group=group,
        head_dim=head_dim,
    )
    case.check(make_attention(device, 4), Variant(scale=head_dim**-0.5))


@pytest.mark.parametrize(("device", "dtype"), SHAPE_TARGETS)
@pytest.mark.parametrize(("head_dim", "value_dim"), [(192, 128), (24, 16), (96, 128)])
@pytest.mark.parametrize("processors", [1, 16], ids=["whole", "split"])
def test_keys_and_values_may_differ_in_width(
    device: str, dtype: torch.dtype, head_dim: int, value_dim: int, processors: int
) -> None:
    case = make_case(
        [(45, 1), (17, 1), (21, 21), (40, 3)],
        device=device,
        dtype=dtype,
        kv_heads=2,
        group=1,
        head_dim=head_dim,
        shape=LayerShape(2, head_dim, value_dim),
    )
    variant = make_variant({"sinks": True}, case.query)
    result = case.check(make_attention(device, processors), variant)
    assert result.shape[2] == value_dim


@pytest.mark.parametrize(("device", "dtype"), SHAPE_TARGETS)
@pytest.mark.parametrize(("rank", "heads"), [(64, 4), (512, 20)])
@pytest.mark.parametrize("processors", [1, 16], ids=["whole", "split"])
def test_latents_are_attended_to_as_they_are_stored(
    device: str, dtype: torch.dtype, rank: int, heads: int, processors: int
) -> None:
    expanded = LayerShape(heads, 24 + 8, 16)
    shape = LayerShape(1, rank + 8, rank, expanded=expanded)
    rows = [(45, 1), (17, 1), (21, 21), (40, 3)]
    case = make_case(
        rows, device=device, dtype=dtype, kv_heads=1, group=heads, head_dim=rank + 8, shape=shape
    )
    generator = torch.Generator().manual_seed(2)
    keys, values = (
        torch.randn(heads, *size, generator=generator).div(rank**0.5).to(device, dtype)
        for size in ((24, rank), (rank, 16))
    )
    query = case.query[..., : expanded.head_dim]
    variant = dataclasses.replace(make_variant({}, query), latent=Latent(keys, values))
    result = dataclasses.replace(case, query=query).check(
        make_attention(device, processors), variant
    )
    assert result.shape == (len(query), heads, 16)


@pytest.mark.parametrize(("device", "dtype"), SHAPE_TARGETS)
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("processors", [1, 16], ids=["whole", "split"])
def test_a_row_without_context_gets_zeros_and_disturbs_nobody(
    device: str, dtype: torch.dtype, sinks: bool, processors: int
) -> None:
    case = make_case(
        [(33, 1), (0, 1), (5, 1), (0, 1)],
        device=device,
        dtype=dtype,
        kv_heads=1,
        group=4,
        head_dim=64,
    )
    variant = make_variant({"sinks": sinks}, case.query)
    result = case.check(make_attention(device, processors), variant)
    assert not result[[1, 3]].any()


@pytest.mark.parametrize(("device", "dtype"), TARGETS)
@pytest.mark.parametrize("options", VARIANTS)
def test_what_pads_a_graph_with_prompts_gets_zeros_and_disturbs_nobody(
    device: str, dtype: torch.dtype, options: dict[str, object]
) -> None:
    # Decode rows without context, prompts without tokens, tokens without context.
    case = make_case(
        [(33, 1), (0, 1), (90, 40), (17, 17), (0, 0), (0, 0), (0, 70)],
        device=device,
        dtype=dtype,
        kv_heads=KV_HEADS,
        group=3,
        head_dim=64,
    )
    batch = dataclasses.replace(case.batch, max_query=127, prefill_context=None)
    case = dataclasses.replace(case, batch=batch)
    variant = make_variant(options, case.query)
    result = case.check(make_attention(device, 4), variant)
    assert not result[1].any()
    assert not result[-70:].any()


@pytest.mark.parametrize(("device", "dtype"), TARGETS)
@pytest.mark.parametrize("options", VARIANTS)
def test_prefill_beside_decode_is_equal_to_plain_torch(
    device: str, dtype: torch.dtype, options: dict[str, object]
) -> None:
    # Whole prompts, one that goes on after an earlier chunk, one longer than a tile of queries.
    case = make_case(
        [(70, 1), (1, 1), (17, 17), (90, 40), (2, 2)],
        device=device,
        dtype=dtype,
        kv_heads=KV_HEADS,
        group=3,
        head_dim=64,
    )
    case.check(make_attention(device, 4), make_variant(options, case.query))


@pytest.mark.parametrize(("device", "dtype"), SHAPE_TARGETS)
@pytest.mark.parametrize("head_dim", [80, 128, 256])
def test_prefill_alone_takes_heads_of_any_size(
    device: str, dtype: torch.dtype, head_dim: int
) -> None:
    case = make_case(
        [(21, 21), (40, 3)], device=device, dtype=dtype, kv_heads=1, group=2, head_dim=head_dim
    )
    case.check(make_attention(device, 4), Variant(scale=head_dim**-0.5))


@pytest.mark.parametrize(("device", "dtype"), SHAPE_TARGETS)
@pytest.mark.parametrize(
    "shape",
    [
        LayerShape(3, 80), LayerShape(20, 64), LayerShape(20, 24, 16), LayerShape(3, 5, 80),
        LayerShape(1, 72, 64, expanded=LayerShape(4, 24, 16)),
    ],
)  # fmt: skip
def test_write_fills_its_slots_and_skips_padding(
    device: str, dtype: torch.dtype, shape: LayerShape
) -> None:
    caches = [
        kind(
            [shape],
            num_blocks=4,
            block_size=BLOCK_SIZE,
            dtype=dtype,
            device=torch.device(device),
        )
        for kind in (KVCache, CudaKVCache)
    ]
    slots = torch.tensor([17, 63, 0, 15], device=device)
    keys = torch.randn(shape.kv_heads, 6, shape.head_dim).to(device, dtype).transpose(0, 1)
    values = torch.randn(6, shape.kv_heads, shape.value_width).to(device, dtype)
    caches[0].write(0, slots, keys[:4], values[:4])
    padded = torch.cat((slots, slots.new_full((2,), -1)))
    caches[1].write(0, padded, keys, values)
    assert torch.equal(caches[0].keys[0], caches[1].keys[0])
    assert torch.equal(caches[0].values[0], caches[1].values[0])
