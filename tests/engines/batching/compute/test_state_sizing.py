"""How many recurrent states there is memory for, and that all together fits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.kv_cache import NO_ATTENTION, LayerShape
from llmserve.engines.batching.compute.sizing import (
    MOST_EMPTY_BLOCKS,
    CacheOptions,
    CacheSize,
    cpu_cache_size,
    gpu_cache_size,
    most_running,
)
from llmserve.engines.batching.compute.state_pool import StateShape
from llmserve.engines.batching.compute.state_sizing import MOST_CHECKPOINTS, NumStates
from llmserve.engines.memory_share import USABLE, Occupancy
from llmserve.errors import ModelBroken

STATE = 40_000
"""Bytes of one state."""
HYBRID = CacheShape(
    (LayerShape(2, 16), NO_ATTENTION),
    (StateShape("layers.1", "recurrent", (STATE // 4,), torch.float32),),
)
PURE = dataclasses.replace(HYBRID, layers=(NO_ATTENTION,))
PER_TOKEN = 2 * 2 * 16 * 2
WISH = CacheOptions(block_size=16, max_running=8)
CONTEXT = 4096


def on_cpu(shape: CacheShape, free_bytes: int = 10**9, **changes: object) -> CacheSize:
    wish = dataclasses.replace(WISH, **changes)  # type: ignore[arg-type]
    return cpu_cache_size(shape, torch.bfloat16, wish, free_bytes=free_bytes, max_context=CONTEXT)


def on_gpu(shape: CacheShape, room: int, **changes: object) -> CacheSize:
    """With so many bytes for the cache."""
    wish = dataclasses.replace(WISH, **changes)  # type: ignore[arg-type]
    free = int(room / USABLE) + 1
    return gpu_cache_size(
        shape,
        torch.bfloat16,
        wish,
        device=Occupancy(free, free, 0),
        weight_bytes=0,
        headroom_bytes=0,
        headroom="0 for steps",
        max_context=CONTEXT,
    )


def kv_bytes(size: CacheSize) -> int:
    return size.num_blocks * 16 * PER_TOKEN


def test_a_state_is_told_with_those_that_a_step_writes() -> None:
    states = NumStates(8, 8, STATE)
    assert states.num_slots == 16
    assert str(states) == (
        "26 recurrent states × 40,000 bytes = 1,040,000 bytes "
        "(2 × 8 requests, 8 checkpoints, 2 reserved)"
    )
    assert states.num_bytes == 26 * STATE


def test_a_model_without_states_has_room_for_all_and_is_told_as_before() -> None:
    plain = CacheShape(HYBRID.layers)
    for size in (on_cpu(plain), on_gpu(plain, 10**8)):
        assert size.states == NumStates(8)
        assert size.states.num_bytes == 0
        assert "states" not in size.arithmetic


def test_a_cpu_keeps_a_state_and_a_checkpoint_for_each_request() -> None:
    size = on_cpu(HYBRID)
    assert size.states == NumStates(8, 8, STATE)
    assert size.num_blocks == on_cpu(CacheShape(HYBRID.layers)).num_blocks
    assert size.arithmetic.endswith(str(size.states))


def test_without_prefix_caching_there_are_no_checkpoints() -> None:
    assert on_cpu(HYBRID, is_caching=False).states == NumStates(8, 0, STATE)
    assert on_gpu(HYBRID, 10**8, is_caching=False).states == NumStates(8, 0, STATE)


def test_a_gpu_shares_what_running_requests_leave_with_checkpoints() -> None:
    room = 18 * STATE + 40 * STATE
    size = on_gpu(HYBRID, room)
    assert size.states == NumStates(8, 10, STATE)
    assert 30 * STATE - 16 * PER_TOKEN < kv_bytes(size) <= 30 * STATE


def test_where_states_are_large_fewer_requests_run() -> None:
    size = on_gpu(HYBRID, 20 * STATE)
    assert size.states.running == 4, "half of the memory, in which each takes two and two are lost"
    assert kv_bytes(size) > 7 * STATE
    size = on_cpu(HYBRID, free_bytes=30 * STATE)
    assert size.states.running == 2
    assert kv_bytes(size) > 0


def test_one_request_runs_wherever_its_state_and_keys_and_values_fit() -> None:
    least = 512 * PER_TOKEN
    size = on_gpu(HYBRID, 4 * STATE + least)
    assert size.states == NumStates(1, 0, STATE)
    assert kv_bytes(size) == least
    with pytest.raises(ModelBroken, match="no room for the KV cache: it wants 225,536 bytes"):
        on_gpu(HYBRID, 4 * STATE + least - 100)


def test_kv_cache_bytes_are_for_keys_and_values_and_states_get_the_rest() -> None:
    asked = 33 * 16 * PER_TOKEN
    assert on_cpu(HYBRID, num_bytes=asked).num_blocks == 33
    assert on_cpu(HYBRID, num_bytes=asked).states == NumStates(8, 8, STATE)
    size = on_gpu(HYBRID, asked + 21 * STATE, num_bytes=asked)
    assert size.num_blocks == 33
    assert size.states == NumStates(8, 3, STATE)
    with pytest.raises(ModelBroken, match="lower kv_cache_bytes"):
        on_gpu(HYBRID, asked + 4 * STATE - 100, num_bytes=asked)


def test_a_model_that_never_attends_has_all_memory_for_states_and_blocks_for_nothing() -> None:
    size = on_gpu(PURE, 60 * STATE)
    assert size.states == NumStates(8, 42, STATE)
    assert size.num_blocks == 9 * CONTEXT // 16
    assert on_gpu(PURE, 10**9).states.checkpoints == 8 * MOST_CHECKPOINTS
    assert on_cpu(PURE).states == NumStates(8, 8, STATE)
    many = on_gpu(PURE, 10**9, max_running=2000)
    assert many.num_blocks == MOST_EMPTY_BLOCKS


@given(
    room=st.integers(4 * STATE + 512 * PER_TOKEN, 10**8),
    max_running=st.integers(1, 300),
    is_caching=st.booleans(),
    is_pure=st.booleans(),
)
def test_all_together_fits(room: int, max_running: int, is_caching: bool, is_pure: bool) -> None:
    shape = PURE if is_pure else HYBRID
    wish = {"max_running": max_running, "is_caching": is_caching}
    gpu = on_gpu(shape, room, **wish)
    cpu = on_cpu(shape, free_bytes=int(room / 0.4) + 1, **wish)
    for size in (gpu, cpu):
        taken = size.states.num_bytes + (0 if is_pure else kv_bytes(size))
        assert taken <= room + 2
        assert 1 <= size.states.running <= max_running
        assert is_pure or kv_bytes(size) >= 511 * PER_TOKEN


@given(room=st.integers(0, 10**8), max_running=st.integers(1, 300), asked=st.booleans())
def test_what_may_run_before_steps_are_measured_is_no_less_than_after(
    room: int, max_running: int, asked: bool
) -> None:
    wish = CacheOptions(16, max_running, 1000 * PER_TOKEN if asked else None)
    free = int(room / USABLE) + 1
    bound = most_running(
        HYBRID, torch.bfloat16, wish, device=Occupancy(free, free, 0), weight_bytes=0
    )
    assert 1 <= bound <= max_running
    if room > 4 * STATE + 1000 * PER_TOKEN:
        size = on_gpu(HYBRID, room, max_running=max_running, num_bytes=wish.num_bytes)
        assert size.states.running <= bound
