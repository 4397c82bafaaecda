"""What is handed to torch's `varlen_attn`, against doubles that do in plain torch what its
documentation says, with the arguments that torch had from version to version."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from paged import filled_cache, paged_batch

pytest.importorskip("triton", reason="triton is missing; pip install triton")

from llmserve.engines.batching.compute.attention import TorchAttention, Variant
from llmserve.engines.batching.compute.cuda import flash_versions, gather
from llmserve.engines.batching.compute.cuda.flash_versions import activate_paged
from llmserve.engines.batching.compute.cuda.gather import Gather, fits, most_gathered
from llmserve.engines.batching.compute.cuda.launch import CachedLayer, Rows
from llmserve.engines.batching.compute.cuda.varlen import Varlen
from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.batching.compute.latent import Latent

ROWS = [(9, 1), (5, 5), (14, 6), (1, 1)]  # (context, new tokens)
BLOCK_SIZE = 4
NUM_BLOCKS = 16
GROUP = 3
SHAPE = LayerShape(kv_heads=2, head_dim=8)


def plain_varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor | None,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
) -> torch.Tensor:
    """Contexts end where their queries end; (left, right) tokens are seen, all of them if -1."""
    result = torch.empty_like(query)
    for row, (begin, end) in enumerate(pairwise(cu_seq_q.tolist())):
        if block_table is None:
            assert cu_seq_k is not None
            keys = key[cu_seq_k[row] : cu_seq_k[row + 1]]
            values = value[cu_seq_k[row] : cu_seq_k[row + 1]]
        else:
            assert seqused_k is not None
            keys = key[block_table[row].long()].flatten(0, 1)[: seqused_k[row]]
            values = value[block_table[row].long()].flatten(0, 1)[: seqused_k[row]]
        length, context = end - begin, keys.shape[0]
        assert length <= max_q
        assert context <= max_k
        distance = torch.arange(context) - torch.arange(context - length, context)[:, None]
        left, right = window_size
        seen = (distance <= right) if right >= 0 else torch.ones_like(distance, dtype=torch.bool)
        if left >= 0:
            seen &= distance >= -left
        result[begin:end] = torch.nn.functional.scaled_dot_product_attention(
            query[begin:end].transpose(0, 1),
            keys.transpose(0, 1),
            values.transpose(0, 1),
            attn_mask=seen,
            scale=scale,
            enable_gqa=enable_gqa,
        ).transpose(0, 1)
    return result


def varlen_attn_of_2_11(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    return_aux: object = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> torch.Tensor:
    """Grouped heads come as they are."""
    return plain_varlen_attn(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k,
        scale=scale, window_size=window_size, enable_gqa=True,
    )  # fmt: skip


def varlen_attn_of_2_10(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    return_aux: object = None,
) -> torch.Tensor:
    raise AssertionError("it knows neither scale nor window")


def varlen(function: object = plain_varlen_attn) -> Varlen:
    made = Varlen.of_function(function)
    assert made is not None
    return made


def test_what_torch_takes_is_read_off_its_signature() -> None:
    assert varlen().names_groups
    assert not varlen(varlen_attn_of_2_11).names_groups
    assert Varlen.of_function(varlen_attn_of_2_10) is None


@pytest.mark.parametrize("window", [None, 1, 4])
@pytest.mark.parametrize(
    ("kind", "value_dim"),
    [("paged", 8), *((kind, n) for kind in ("gathered", "gathered of 2.11") for n in (8, 6, 12))],
)
def test_flash_attention_is_asked_for_what_plain_torch_computes(
    window: int | None, kind: str, value_dim: int
) -> None:
    batch = paged_batch(ROWS, block_size=BLOCK_SIZE, num_blocks=NUM_BLOCKS)
    shape = dataclasses.replace(SHAPE, value_dim=value_dim)
    cache = filled_cache(shape, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    query = torch.randn(13, SHAPE.kv_heads * GROUP, SHAPE.head_dim)
    variant = Variant(scale=0.4, window=window)
    rows = Rows(
        query, batch.query_starts, batch.context_lengths, batch.block_tables, batch.max_query
    )
    layer = CachedLayer(cache.keys[0], cache.values[0], variant)
    if kind == "paged":
        actual = varlen().paged(rows, layer, batch.max_context)
    else:
        gathered = Gather.of(rows, sum(context for context, _ in ROWS), BLOCK_SIZE)
        attention = varlen(varlen_attn_of_2_11 if "2.11" in kind else plain_varlen_attn)
        actual = attention.gathered(rows, layer, gathered, batch.max_context)
    expected = TorchAttention().attend(cache, 0, batch, query, variant)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("value_dim", [8, 6, 12])
def test_latents_are_expanded_for_it(value_dim: int) -> None:
    heads, rank = 4, 16
    expanded = LayerShape(heads, 5 + 3, value_dim)
    shape = LayerShape(1, rank + 3, rank, expanded=expanded)
    batch = paged_batch(ROWS, block_size=BLOCK_SIZE, num_blocks=NUM_BLOCKS)
    cache = filled_cache(shape, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    query = torch.randn(13, heads, 8)
    latent = Latent(torch.randn(heads, 5, rank), torch.randn(heads, rank, value_dim))
    variant = Variant(scale=0.1, latent=latent)
    layer = CachedLayer(cache.keys[0], cache.values[0], variant, has_latents=True)
    assert layer.expanded == expanded
    rows = Rows(
        query, batch.query_starts, batch.context_lengths, batch.block_tables, batch.max_query
    )
    gathered = Gather.of(rows, sum(context for context, _ in ROWS), BLOCK_SIZE)
    actual = varlen().gathered(rows, layer, gathered, batch.max_context)
    expected = TorchAttention().attend(cache, 0, batch, query, variant)
    torch.testing.assert_close(actual, expected)


def test_copies_are_bounded_by_what_latents_become() -> None:
    expanded = LayerShape(16, 192, 128)
    latents = LayerShape(1, 576, 512, expanded=expanded)
    most = most_gathered(latents, torch.bfloat16)
    assert most == most_gathered(expanded, torch.bfloat16) == gather.MAX_GATHERED_BYTES // 12288


def test_long_contexts_are_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    num_bytes = 29 * SHAPE.bytes_per_token(torch.float32)
    monkeypatch.setattr(gather, "MAX_GATHERED_BYTES", num_bytes)
    assert fits(29, SHAPE, torch.float32)
    assert not fits(30, SHAPE, torch.float32)
    assert most_gathered(SHAPE, torch.float32) == 29


class Torch:
    """What torch would do when another FlashAttention is activated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, major: int = 9) -> None:
        self.active: str | None = None
        self.error: Exception | None = None
        monkeypatch.setattr(flash_versions, "_is_installed", lambda package: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
        monkeypatch.setattr(
            flash_versions.attention, "activate_flash_attention_impl", self.activate
        )
        monkeypatch.setattr(flash_versions.attention, "restore_flash_attention_impl", self.restore)

    def activate(self, name: str) -> None:
        self.active = name
        if self.error is not None:
            raise self.error

    def restore(self, *, _raise_warn: bool) -> None:
        self.active = None


def test_an_installed_flash_attention_is_used_if_it_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    hopper = Torch(monkeypatch)
    assert activate_paged(cpu, varlen(), 16) == hopper.active == "FA3"
    Torch(monkeypatch, major=10)
    assert activate_paged(cpu, varlen(), 16) == "FA4"
    Torch(monkeypatch, major=8)
    assert activate_paged(cpu, varlen(), 16) is None


def test_an_installed_flash_attention_that_is_wrong_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_token_too_few(query: torch.Tensor, *others: object, **named: torch.Tensor) -> object:
        named["seqused_k"] = named["seqused_k"] - 1
        return plain_varlen_attn(query, *others, **named)  # type: ignore[arg-type]

    hopper = Torch(monkeypatch)
    wrong = Varlen(one_token_too_few, names_groups=True)
    assert activate_paged(torch.device("cpu"), wrong, 16) is None
    assert hopper.active is None
    hopper.error = ImportError("built for another torch")
    assert activate_paged(torch.device("cpu"), varlen(), 16) is None
    assert hopper.active is None


def test_without_a_gpu_nothing_is_flash_attention() -> None:
    assert Varlen.of_torch(torch.device("cpu")) is None
    assert flash_versions.paged_version(torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("dtype", "head_dim", "variant", "is_taken"),
    [
        (torch.bfloat16, 64, Variant(1.0), True),
        (torch.float16, 256, Variant(1.0, window=8), True),
        (torch.float32, 64, Variant(1.0), False),
        (torch.bfloat16, 60, Variant(1.0), False),
        (torch.bfloat16, 512, Variant(1.0), False),
        (torch.bfloat16, 64, Variant(1.0, softcap=5.0), False),
        (torch.bfloat16, 64, Variant(1.0, sinks=torch.zeros(4)), False),
    ],
)
def test_it_takes_16_bit_heads_of_up_to_256_without_capped_scores_and_sinks(
    dtype: torch.dtype, head_dim: int, variant: Variant, is_taken: bool
) -> None:
    query, cells = torch.zeros(1, 4, head_dim, dtype=dtype), torch.zeros(1, 2, 16, head_dim)
    assert varlen().takes(query, CachedLayer(cells, cells, variant)) is is_taken


def test_it_takes_keys_and_values_of_different_widths_as_their_copy_is_padded() -> None:
    query, keys = torch.zeros(1, 4, 192, dtype=torch.bfloat16), torch.zeros(1, 2, 16, 192)
    for value_dim, is_taken in ((128, True), (256, True), (320, False)):
        layer = CachedLayer(keys, torch.zeros(1, 2, 16, value_dim), Variant(1.0))
        assert varlen().takes(query, layer) is is_taken
