"""The plain attention against SDPA, the grouped one against the plain one."""

from __future__ import annotations

import pytest
import torch
from paged import filled_cache, paged_batch

from llmserve.engines.batching.compute import attention, grouped_attention
from llmserve.engines.batching.compute.attention import TorchAttention, Variant, attend_row
from llmserve.engines.batching.compute.grouped_attention import GroupedAttention
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape

ROWS = {
    "decode": [(1, 1), (16, 1), (17, 1), (90, 1)],
    "prefill": [(5, 5), (40, 40)],
    "mixed": [(33, 1), (7, 1), (50, 20), (64, 64), (2, 2)],
}
VARIANTS = {
    "full": Variant(0.25),
    "window": Variant(0.25, window=9),
    "softcap": Variant(0.3, softcap=2.0),
    "sinks": Variant(0.25, sinks=torch.linspace(-1, 2, 6)),
    "chunk": Variant(0.25, chunk=9),
    "all": Variant(0.25, window=20, softcap=5.0, sinks=torch.linspace(-1, 2, 6)),
}


def test_the_plain_attention_is_sdpa() -> None:
    query, keys, values = torch.randn(12, 6, 16), torch.randn(2, 30, 16), torch.randn(2, 30, 16)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.transpose(0, 1),
        keys.repeat_interleave(3, 0),
        values.repeat_interleave(3, 0),
        attn_mask=torch.ones(12, 30, dtype=torch.bool).tril(18),
    )
    actual = attend_row(query, keys, values, Variant(16**-0.5))
    torch.testing.assert_close(actual, expected.transpose(0, 1))


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(("kv_heads", "value_dim"), [(1, 24), (2, 24), (6, 24), (6, 16), (2, 40)])
def test_grouped_attention_equals_the_plain_one(
    rows: list[tuple[int, int]], variant: Variant, kv_heads: int, value_dim: int
) -> None:
    batch = paged_batch(rows, block_size=16, num_blocks=40)
    cache = filled_cache(LayerShape(kv_heads, 24, value_dim), num_blocks=40, block_size=16)
    query = torch.randn(len(batch.token_ids), 6, 24)
    expected = TorchAttention().attend(cache, 0, batch, query, variant)
    actual = GroupedAttention().attend(cache, 0, batch, query, variant)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_bytes", [1, 2 * 2 * 24 * 4 * 90 * 3])
def test_many_long_rows_are_attended_in_groups_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, num_bytes: int
) -> None:
    monkeypatch.setattr(grouped_attention, "MAX_GATHERED_BYTES", num_bytes)
    rows = [*ROWS["decode"], (50, 20)]
    batch = paged_batch(rows, block_size=16, num_blocks=40)
    cache = filled_cache(LayerShape(2, 24), num_blocks=40, block_size=16)
    query = torch.randn(len(batch.token_ids), 6, 24)
    expected = TorchAttention().attend(cache, 0, batch, query, VARIANTS["all"])
    actual = GroupedAttention().attend(cache, 0, batch, query, VARIANTS["all"])
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_keys_and_values_go_to_their_slots_and_nowhere_else() -> None:
    cache = KVCache(
        [LayerShape(2, 4)],
        num_blocks=3,
        block_size=4,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    keys, values = torch.randn(2, 2, 4), torch.randn(2, 2, 4)
    cache.write(0, torch.tensor([9, 3]), keys, values)
    torch.testing.assert_close(cache.keys[0][2, :, 1], keys[0])
    torch.testing.assert_close(cache.values[0][0, :, 3], values[1])
    assert int(cache.keys[0].any(-1).sum()) == 2 * 2


def test_a_chunk_sees_nothing_of_another_one() -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(20, 6, 8), torch.randn(2, 20, 8), torch.randn(2, 20, 16)
    whole = attend_row(query, keys, values, Variant(0.3, chunk=9))
    alone = [
        attend_row(query[part], keys[:, part], values[:, part], Variant(0.3))
        for part in (slice(0, 9), slice(9, 18), slice(18, 20))
    ]
    torch.testing.assert_close(whole, torch.cat(alone))


def test_layers_that_share_keys_and_values_have_the_same_memory() -> None:
    layers = [LayerShape(2, 4, 8), LayerShape(1, 4), LayerShape(2, 4, 8, shared_with=0)]
    cache = KVCache(
        layers, num_blocks=3, block_size=4, dtype=torch.float32, device=torch.device("cpu")
    )
    assert cache.keys[2] is cache.keys[0]
    assert cache.values[2] is cache.values[0]
    per_token = sum(layer.bytes_per_token(torch.float32) for layer in layers)
    assert cache.num_bytes == per_token * cache.num_tokens == 12 * 4 * (2 * 12 + 8)


@pytest.mark.parametrize(
    "options", [{}, {"window": 7}, {"chunk": 7}, {"softcap": 2.0}, {"sinks": True}]
)
def test_a_long_prompt_is_attended_in_pieces_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(40, 6, 8), torch.randn(2, 50, 8), torch.randn(2, 50, 8)
    if "sinks" in options:
        options = {"sinks": torch.randn(6)}
    variant = Variant(scale=0.3, **options)  # type: ignore[arg-type]
    whole = attend_row(query, keys, values, variant)
    monkeypatch.setattr(attention, "MAX_SCORES", 6 * 50 * 9)
    torch.testing.assert_close(attend_row(query, keys, values, variant), whole)
    monkeypatch.setattr(attention, "MAX_SCORES", 1)
    torch.testing.assert_close(attend_row(query, keys, values, variant), whole)
