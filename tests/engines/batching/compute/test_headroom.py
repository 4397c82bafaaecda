"""What must stay free for steps and graphs, measured before the cache takes the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cuda_doubles import FakeMemory

from llmserve.domain import ModelSpec
from llmserve.engines.batching.compute import headroom as module
from llmserve.engines.batching.compute.attention import TorchAttention
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.headroom import (
    Headroom,
    LargestStep,
    measure_graphs,
    measure_step,
)
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.row_sampling import RowSampling
from llmserve.engines.batching.compute.support import layer_shapes
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.loading import load_model


def measured(memory: FakeMemory, tokens: int = 4096, room: int = 0) -> tuple[int, int]:
    return measure_step(
        memory, memory.step, tokens_per_step=tokens, least_tokens=256, least_room=room
    )


def test_a_step_takes_what_it_took_when_it_was_tried() -> None:
    assert measured(FakeMemory()) == (4096, 4_096_000)


def test_a_step_that_leaves_too_little_for_the_cache_is_halved() -> None:
    memory = FakeMemory(free_bytes=5_000_000)
    assert measured(memory, room=3_000_000) == (1024, 1_024_000)
    assert memory.steps == [4096, 2048, 1024]


def test_a_step_that_runs_out_of_memory_is_halved() -> None:
    memory = FakeMemory(free_bytes=1_500_000)
    assert measured(memory) == (1024, 1_024_000)


def test_a_device_without_room_for_the_least_step_says_so() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        measured(FakeMemory(free_bytes=100_000))


def test_the_least_step_is_taken_however_little_it_leaves() -> None:
    assert measured(FakeMemory(free_bytes=300_000), room=10**9) == (256, 256_000)


class Graphs:
    """Each graph takes what is next in `costs`."""

    def __init__(self, memory: FakeMemory, costs: list[int], num_buckets: int) -> None:
        self.memory = memory
        self.costs = costs
        self.num_buckets = num_buckets
        self.is_watched = False

    def check_capturable(self) -> None:
        self.is_watched = True

    def capture_next(self) -> None:
        assert self.is_watched, "what waits for the device is found before anything is recorded"
        self.memory.free_bytes -= self.costs.pop(0)


def test_graphs_take_their_buffers_the_first_ones_memory_and_a_little_for_each_more() -> None:
    memory = FakeMemory()

    def build(costs: list[int], num_buckets: int) -> Graphs:
        memory.free_bytes -= 700  # tables that all read
        return Graphs(memory, costs, num_buckets)

    assert measure_graphs(memory, lambda: build([5000, 30], 11)) == 700 + 5000 + 10 * 30  # type: ignore[arg-type,return-value]
    assert measure_graphs(memory, lambda: build([5000], 1)) == 5700  # type: ignore[arg-type,return-value]


def test_a_model_that_cannot_be_captured_is_told_with_the_reason() -> None:
    class Waiting(Graphs):
        def check_capturable(self) -> None:
            raise RuntimeError("aten.nonzero.default waits for the device")

    memory = FakeMemory()
    graphs = Waiting(memory, [], 3)
    assert measure_graphs(memory, lambda: graphs) == "aten.nonzero.default waits for the device"  # type: ignore[arg-type]


def test_headroom_is_told_with_its_parts() -> None:
    headroom = Headroom(4096, 1_000_000, 2_000)
    assert headroom.num_bytes == 1_002_000
    assert str(headroom) == "1,000,000 for steps of 4,096 tokens - 2,000 for CUDA graphs"
    assert Headroom(4096, 1_000_000, None).num_bytes == 1_000_000


@pytest.mark.parametrize("num_tokens", [3, 6, 40, 70])
def test_the_largest_step_has_all_rows_all_tokens_and_the_longest_context(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, num_tokens: int
) -> None:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", device="cpu", max_context=48)
    loaded = load_model(spec, tiny_model, lambda progress: None)
    layers = layer_shapes(loaded)
    batches: list[tuple[Batch, int]] = []
    forward = TransformersForward(loaded.model, TorchAttention())

    def watched(batch: Batch, cache: KVCache) -> torch.Tensor:
        batches.append((batch, cache.num_blocks))
        return forward(batch, cache)

    cache = KVCache(
        layers, num_blocks=1, block_size=4, dtype=torch.float32, device=torch.device("cpu")
    )
    try:
        LargestStep(loaded, layers, watched, cache, 6).run(num_tokens)
    finally:
        forward.close()
    (batch, num_blocks) = batches[0]
    assert num_blocks == 1
    assert batch.token_ids.shape == (num_tokens,)
    assert batch.sampled.shape[0] >= min(6, num_tokens)
    assert int(batch.slots.max()) < 4
    if num_tokens > 6:
        assert batch.max_context == 48


def test_its_tokens_are_chosen_in_the_dearest_way() -> None:
    row = RowSampling(module.DEAREST, [1], (), 10, torch.device("cpu"))
    assert not row.is_greedy
    assert row.is_filtered
    assert not row.is_plain
    assert row.params.logprobs is not None
