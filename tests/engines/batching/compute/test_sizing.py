"""How large the cache becomes, and that the arithmetic shown is the one done."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.batching.compute.sizing import (
    CacheOptions,
    CacheSize,
    cpu_cache_size,
    gpu_cache_size,
)
from llmserve.engines.memory_share import USABLE, MemoryShare, Occupancy
from llmserve.errors import ModelBroken

LAYERS = (LayerShape(2, 16), LayerShape(2, 16))
PER_TOKEN = 2 * 2 * 2 * 16 * 2  # layers, keys and values, heads, size, bytes
WISH = CacheOptions(block_size=16, max_running=8)


def on_cpu(free_bytes: int = 10**9, **changes: object) -> CacheSize:
    wish = dataclasses.replace(WISH, **changes)  # type: ignore[arg-type]
    return cpu_cache_size(
        CacheShape(LAYERS), torch.bfloat16, wish, free_bytes=free_bytes, max_context=4096
    )


def on_gpu(free_bytes: int, headroom: int = 0, own: int = 0, **changes: object) -> CacheSize:
    """On a device of which this process has `own` bytes, and nobody else any."""
    wish = dataclasses.replace(WISH, **changes)  # type: ignore[arg-type]
    return gpu_cache_size(
        CacheShape(LAYERS),
        torch.bfloat16,
        wish,
        device=Occupancy(free_bytes + own, free_bytes, own),
        weight_bytes=5_000_000,
        headroom_bytes=headroom,
        headroom=f"{headroom:,} for steps",
        max_context=4096,
    )


def blocks(count: int) -> int:
    """Bytes of so many blocks."""
    return PER_TOKEN * 16 * count


@pytest.mark.parametrize("size", [on_cpu, lambda **wish: on_gpu(10**9, **wish)])
def test_what_was_asked_for_is_taken(size: object) -> None:
    asked = size(num_bytes=blocks(33) + 5)  # type: ignore[operator]
    assert asked.num_blocks == 33
    assert "kv_cache_bytes" in asked.arithmetic


def test_a_cpu_takes_what_the_requests_usually_want() -> None:
    assert on_cpu().num_blocks * 16 == 8 * (2048 + 16)


def test_a_cpu_takes_no_more_than_a_share_of_what_is_free() -> None:
    assert on_cpu(blocks(100)).num_blocks == 40
    assert on_cpu(blocks(100), share=MemoryShare(0.5)).num_blocks == 20


def test_one_whole_context_has_room_however_few_may_run() -> None:
    assert on_cpu(max_running=1).num_blocks * 16 >= 4096


def test_a_gpu_takes_what_is_free_less_what_steps_need() -> None:
    assert on_gpu(blocks(1000)).num_blocks == 1000 * USABLE
    assert on_gpu(blocks(1000), headroom=blocks(300)).num_blocks == 1000 * USABLE - 300


def test_a_gpu_is_shared_among_workers_and_models() -> None:
    free, quarter = blocks(1000), MemoryShare(part=0.25)
    assert on_gpu(free, share=quarter).num_blocks == int(250 * USABLE)
    assert on_gpu(free, headroom=blocks(50), share=quarter).num_blocks == int(250 * USABLE) - 50
    assert on_gpu(free, own=blocks(200), share=quarter).num_blocks == int(300 * USABLE) - 200
    other = MemoryShare(weights_to_come=blocks(100), models_to_come=1)
    assert on_gpu(free, share=other).num_blocks == (950 - 100) // 2
    there = MemoryShare(others_steps=blocks(100))
    assert on_gpu(free, share=there).num_blocks == 950 - 100


def test_more_than_can_ever_be_used_is_not_taken() -> None:
    assert on_gpu(10**12).num_blocks == 9 * 4096 // 16


def test_a_cache_that_is_not_worth_having_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ModelBroken) as refused:
        on_gpu(blocks(100), headroom=blocks(70))
    message = refused.value.message.replace(",", "")
    assert f"it wants {blocks(32)} bytes" in message
    assert f"({blocks(100)} bytes free × 0.95) = {blocks(95)}" in message
    assert f"- {blocks(70)} for steps = {blocks(25)}" in message
    assert "lower kv_cache_bytes" in message


def test_more_than_there_is_room_for_is_refused() -> None:
    with pytest.raises(ModelBroken, match="no room for the KV cache"):
        on_gpu(blocks(1000), num_bytes=blocks(951))
    assert on_gpu(blocks(1000), num_bytes=blocks(949)).num_blocks == 949


@pytest.mark.parametrize("size", [on_cpu(), on_gpu(blocks(1000), headroom=blocks(7))])
def test_the_arithmetic_multiplies_out(size: CacheSize) -> None:
    told = size.arithmetic.replace(",", "")
    count, per_block, per_token, product = (
        int(told.split()[i]) for i in (0, 3, 6, 11)
    )  # "B blocks × S tokens × N bytes per token = P bytes …"
    assert count * per_block * per_token == product
