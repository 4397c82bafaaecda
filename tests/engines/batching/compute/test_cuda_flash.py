"""What is handed to torch's `varlen_attn`, against a double that does in plain torch what its
documentation says."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from paged import filled_cache, paged_batch

pytest.importorskip("triton", reason="triton is missing; pip install triton")

from llmserve.engines.batching.compute.attention import TorchAttention, Variant
from llmserve.engines.batching.compute.cuda import flash
from llmserve.engines.batching.compute.cuda.launch import Layer, Rows
from llmserve.engines.batching.compute.kv_cache import LayerShape

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


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash, "_varlen_attn", lambda: plain_varlen_attn)


@pytest.mark.parametrize("window", [None, 1, 4])
@pytest.mark.parametrize("is_paged", [False, True])
def test_flash_attention_is_asked_for_what_plain_torch_computes(
    window: int | None, is_paged: bool
) -> None:
    batch = paged_batch(ROWS, block_size=BLOCK_SIZE, num_blocks=NUM_BLOCKS)
    cache = filled_cache(SHAPE, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    query = torch.randn(13, SHAPE.kv_heads * GROUP, SHAPE.head_dim)
    variant = Variant(scale=0.4, window=window)
    rows = Rows(
        query, batch.query_starts, batch.context_lengths, batch.block_tables, batch.max_query
    )
    layer = Layer(cache.keys[0], cache.values[0], variant)
    if is_paged:
        actual = flash.paged_flash(rows, layer, batch.max_context)
    else:
        gather = flash.Gather.of(rows, BLOCK_SIZE)
        actual = flash.gathered_flash(rows, layer, gather, batch.max_context)
    expected = TorchAttention().attend(cache, 0, batch, query, variant)
    torch.testing.assert_close(actual, expected)


def test_long_contexts_are_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = paged_batch(ROWS, block_size=BLOCK_SIZE, num_blocks=NUM_BLOCKS)
    cache = filled_cache(SHAPE, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    rows = Rows(
        torch.zeros(13, 6, 8), batch.query_starts, batch.context_lengths, batch.block_tables, 6
    )
    layer = Layer(cache.keys[0], cache.values[0], Variant(scale=1.0))
    gather = flash.Gather.of(rows, BLOCK_SIZE)
    num_bytes = 29 * SHAPE.bytes_per_token(torch.float32)
    monkeypatch.setattr(flash, "MAX_GATHERED_BYTES", num_bytes)
    assert gather.fits(layer)
    monkeypatch.setattr(flash, "MAX_GATHERED_BYTES", num_bytes - 1)
    assert not gather.fits(layer)


class Torch:
    """What torch would do when another FlashAttention is activated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, major: int = 9) -> None:
        self.active: str | None = None
        self.error: Exception | None = None
        monkeypatch.setattr(flash, "_is_installed", lambda package: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
        monkeypatch.setattr(flash.attention, "activate_flash_attention_impl", self.activate)
        monkeypatch.setattr(flash.attention, "restore_flash_attention_impl", self.restore)

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
    assert flash.activate_paged(cpu, 16) == hopper.active == "FA3"
    Torch(monkeypatch, major=10)
    assert flash.activate_paged(cpu, 16) == "FA4"
    Torch(monkeypatch, major=8)
    assert flash.activate_paged(cpu, 16) is None


def test_an_installed_flash_attention_that_is_wrong_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_token_too_few(query: torch.Tensor, *others: object, **named: torch.Tensor) -> object:
        named["seqused_k"] = named["seqused_k"] - 1
        return plain_varlen_attn(query, *others, **named)  # type: ignore[arg-type]

    hopper = Torch(monkeypatch)
    monkeypatch.setattr(flash, "_varlen_attn", lambda: one_token_too_few)
    assert flash.activate_paged(torch.device("cpu"), 16) is None
    assert hopper.active is None
    monkeypatch.setattr(flash, "_varlen_attn", lambda: plain_varlen_attn)
    hopper.error = ImportError("built for another torch")
    assert flash.activate_paged(torch.device("cpu"), 16) is None
    assert hopper.active is None


def test_without_a_gpu_nothing_is_flash_attention() -> None:
    query = torch.zeros(1, 4, 64, dtype=torch.bfloat16)
    assert not flash.takes(query, Variant(scale=1.0))
    assert flash.paged_version(torch.device("cpu")) is None
