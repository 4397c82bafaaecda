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
from llmserve.engines.batching.compute.sampling import torch_sampler
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.sampling.sampler import sample
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.weights.loading import load_model


def measured(memory: FakeMemory, tokens: int = 4096, most: int = 10**9) -> tuple[int, int]:
    return measure_step(
        memory, memory.step, tokens_per_step=tokens, least_tokens=256, most_bytes=most
    )


def test_a_step_takes_what_it_took_when_it_was_tried() -> None:
    assert measured(FakeMemory()) == (4096, 4_096_000)


def test_a_step_that_leaves_too_little_for_the_cache_is_halved() -> None:
    memory = FakeMemory(free_bytes=5_000_000)
    assert measured(memory, most=2_000_000) == (1024, 1_024_000)
    assert memory.steps == [4096, 2048, 1024]


def test_a_step_that_runs_out_of_memory_is_halved() -> None:
    memory = FakeMemory(free_bytes=1_500_000)
    assert measured(memory) == (1024, 1_024_000)


def test_a_device_without_room_for_the_least_step_says_so() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        measured(FakeMemory(free_bytes=100_000))


def test_the_least_step_is_taken_however_little_it_leaves() -> None:
    assert measured(FakeMemory(free_bytes=300_000), most=-1) == (256, 256_000)


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


class Steps:
    """`LargestStep` of a tiny model of at most 48 tokens, and the batches that it ran. Where
    prompts may be copied, it is 150 tokens of them."""

    def __init__(self, folder: Path, *, max_running: int = 6, is_plain: bool = False) -> None:
        spec = ModelSpec("tiny", path=folder, dtype="float32", device="cpu", max_context=48)
        loaded = load_model(spec, folder, lambda progress: None)
        layers = cache_shape(loaded).layers
        assert not isinstance(layers, str)
        self.batches: list[Batch] = []
        self.forward = TransformersForward(loaded.model, TorchAttention())
        cache = KVCache(
            layers, num_blocks=1, block_size=4, dtype=torch.float32, device=torch.device("cpu")
        )
        self.largest = LargestStep(
            loaded, layers, self._watched, cache, max_running, is_plain=is_plain
        )

    def _watched(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        assert cache.num_blocks == 1
        self.batches.append(batch)
        return self.forward(batch, cache)

    def run(self, num_tokens: int) -> Batch:
        try:
            self.largest.run(num_tokens)
        finally:
            self.forward.close()
        return self.batches[0]


@pytest.fixture
def few_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "most_gathered", lambda layer, dtype: 150)


@pytest.mark.usefixtures("few_copied")
@pytest.mark.parametrize("num_tokens", [3, 6, 7, 40, 70, 280])
def test_the_largest_step_has_all_rows_all_tokens_and_the_longest_contexts(
    tiny_model: Path, num_tokens: int
) -> None:
    batch = Steps(tiny_model).run(num_tokens)
    assert batch.token_ids.shape == (num_tokens,)
    scored = 0 if batch.targets is None else len(batch.targets.token_ids)
    assert batch.sampled.shape[0] == min(6, num_tokens) + scored
    assert scored == num_tokens - min(6, num_tokens), "all but each row's last token"
    assert int(batch.slots.max()) < 4
    assert batch.max_context == (47 if num_tokens == 280 else 48)
    if num_tokens >= 40:
        assert batch.prefill_context == pytest.approx(max(num_tokens, 150), abs=10)
    lengths = batch.query_starts.diff()
    assert all(lengths[: batch.num_decode] == 1)
    assert all(lengths[batch.num_decode :] > 1)


def test_no_step_is_larger_than_its_rows_may_be(tiny_model: Path) -> None:
    batch = Steps(tiny_model).run(4096)
    assert batch.token_ids.shape == (6 * 48,)
    assert batch.sampled.shape == (6 * 48,), "6 are sampled, the others scored"


def test_attention_in_torch_is_tried_with_all_the_decode_rows_that_it_copies_at_once(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "rows_at_once", lambda cache, layer, context: 3)
    batch = Steps(tiny_model, is_plain=True).run(40)
    assert batch.context_lengths.tolist() == [48, 48, 48, 1, 1, 48]
    assert batch.num_decode == 5


def test_its_tokens_are_chosen_in_the_dearest_way(monkeypatch: pytest.MonkeyPatch) -> None:
    vocab = 5000
    row = RowState(module.DEAREST, [1], (), vocab, torch.device("cpu"))
    assert not row.is_plain
    assert row.params.logprobs is not None
    sorted_sizes = []
    plain = torch_sampler._descending

    def watched(scores: torch.Tensor) -> torch.Tensor:
        sorted_sizes.append(scores.shape[-1])
        return plain(scores)

    monkeypatch.setattr(torch_sampler, "_descending", watched)
    torch.manual_seed(0)
    sample(10 * torch.randn(1, vocab), [row])
    assert max(sorted_sizes, default=0) == vocab
