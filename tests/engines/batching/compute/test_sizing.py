"""How large the cache becomes, and that the arithmetic shown is the one done."""

from __future__ import annotations

import torch

from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.batching.compute.sizing import CacheSize, cache_size

LAYERS = (LayerShape(2, 16), LayerShape(2, 16))
PER_TOKEN = 2 * 2 * 2 * 16 * 2  # layers, keys and values, heads, size, bytes


def size(**changes: object) -> CacheSize:
    wanted = {
        "is_gpu": False,
        "free_bytes": 10**9,
        "max_running": 8,
        "max_context": 4096,
        "asked_bytes": None,
        "share": 1.0,
    } | changes
    return cache_size(LAYERS, torch.bfloat16, 16, **wanted)  # type: ignore[arg-type]


def test_what_was_asked_for_is_taken() -> None:
    asked = size(asked_bytes=PER_TOKEN * 16 * 33 + 5)
    assert asked.num_blocks == 33
    assert "kv_cache_bytes" in asked.arithmetic


def test_a_cpu_takes_what_the_requests_usually_want() -> None:
    assert size().num_blocks * 16 == 8 * (2048 + 16)


def test_a_cpu_takes_no_more_than_a_share_of_what_is_free() -> None:
    scarce = size(free_bytes=PER_TOKEN * 16 * 100)
    assert scarce.num_blocks == 40
    assert size(free_bytes=PER_TOKEN * 16 * 100, share=0.5).num_blocks == 20


def test_one_whole_context_has_room_however_few_may_run() -> None:
    assert size(max_running=1).num_blocks * 16 >= 4096


def test_a_gpu_takes_what_is_free_shared_among_its_workers() -> None:
    free = PER_TOKEN * 16 * 1000
    assert size(is_gpu=True, free_bytes=free).num_blocks == 900
    assert size(is_gpu=True, free_bytes=free, share=0.25).num_blocks == 225


def test_more_than_can_ever_be_used_is_not_taken() -> None:
    assert size(is_gpu=True, free_bytes=10**12).num_blocks == 9 * 4096 // 16


def test_the_arithmetic_multiplies_out() -> None:
    told = size().arithmetic.replace(",", "")
    blocks, per_block, per_token, product = (
        int(told.split()[i]) for i in (0, 3, 6, 11)
    )  # "B blocks × S tokens × N bytes per token = P bytes …"
    assert blocks * per_block * per_token == product
