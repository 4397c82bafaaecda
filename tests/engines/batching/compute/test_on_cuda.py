"""What a CUDA device is given, put together from doubles that a CPU can run: the order of things,
that the tokens stay the same, and what happens where something does not work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_doubles import FakeMemory, Repeater, SkippingCache
from support.tiny_hybrids import tiny_hybrid

from llmserve.domain import LoadProgress, ModelSpec, SamplingParams
from llmserve.engines.batching.compute import on_cuda
from llmserve.engines.batching.compute.attention import Variant
from llmserve.engines.batching.compute.backends import Backend
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.cuda import compiled
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.on_cuda import build_on_cuda
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.weights.loading import LoadedModel, load_model
from llmserve.errors import ModelBroken

GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
WISH = CacheOptions(block_size=4, max_running=6)
PROMPTS = ([5, 6, 7], [9] * 11, [3])


class TorchFreeOfSyncs:
    """Attends without a look at the host's side of anything. Every token reads its row's whole
    table."""

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        tokens = torch.arange(query.shape[0], dtype=torch.int32)
        rows = torch.searchsorted(batch.query_starts[1:].contiguous(), tokens, right=True)
        last = batch.context_lengths[rows] - batch.query_starts[rows + 1] + tokens
        keys = cache.keys[layer][batch.block_tables[rows].long()].transpose(1, 2).flatten(2, 3)
        values = cache.values[layer][batch.block_tables[rows].long()].transpose(1, 2).flatten(2, 3)
        folded = query.reshape(keys.shape[0], keys.shape[1], query.shape[1] // keys.shape[1], -1)
        scores = folded @ keys.transpose(2, 3) * variant.scale
        hidden = torch.arange(keys.shape[2]) > last.view(-1, 1, 1, 1)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1).nan_to_num(0.0)
        return (weights @ values).reshape(query.shape)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Repeater:
    repeater = Repeater()
    monkeypatch.setattr(on_cuda, "CudaRecorder", lambda device: repeater)
    return repeater


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, recorder: Repeater) -> list[str]:
    """What happened of what only a GPU can do, in its order."""
    events: list[str] = []
    backend = Backend(
        "attention of a double",
        TorchFreeOfSyncs(),
        SkippingCache,
        lambda rows, tokens: events.append(f"kernels for {rows} rows of {tokens} tokens"),
    )
    monkeypatch.setattr(on_cuda, "first_that_works", lambda loaded, trial: (backend, []))
    monkeypatch.setattr(on_cuda, "DeviceMemory", lambda device: FakeMemory())
    monkeypatch.setattr(compiled, "compiled", lambda model: events.append("compile"))
    return events


@pytest.fixture
def loaded(tiny_model: Path) -> LoadedModel:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", device="cpu")
    return load_model(spec, tiny_model, lambda progress: None)


def tokens_of(computation: ModelComputation, vocab: int) -> list[list[int]]:
    pool = computation.cache.states
    scheduler = Scheduler(
        num_states=None if pool is None else pool.num_slots,
        num_blocks=computation.cache.num_blocks,
        block_size=WISH.block_size,
        max_tokens_per_step=8,
        max_sequences=WISH.max_running,
    )
    sequences = [Sequence(list(prompt)) for prompt in PROMPTS]
    states: dict[Sequence, RowState] = {}
    for sequence, prompt in zip(sequences, PROMPTS, strict=True):
        scheduler.add(sequence)
        states[sequence] = RowState(GREEDY, prompt, (), vocab, torch.device("cpu"))
    for _ in range(12):
        plan = scheduler.plan()
        rows = [states[part.sequence] for part in plan.slices if part.is_sampled]
        choices = computation.compute(computation.prepare(plan), rows).tokens
        scheduler.commit(plan, [choice.token_id or 0 for choice in choices])
    return [sequence.token_ids for sequence in sequences]


def on_double(
    loaded: LoadedModel,
    is_compiled: bool = False,
    on_progress: Callable[[LoadProgress], None] = lambda progress: None,
) -> ModelComputation:
    return build_on_cuda(loaded, cache_shape(loaded), WISH, 64, is_compiled, on_progress)


@pytest.fixture
def expected(loaded: LoadedModel) -> list[list[int]]:
    plain = build_computation(loaded, cache_shape(loaded), WISH)
    tokens = tokens_of(plain, loaded.model.config.vocab_size)
    plain.close()
    return tokens


def test_a_cuda_device_gets_kernels_graphs_and_compiled_layers(
    loaded: LoadedModel, told: list[str], recorder: Repeater, expected: list[list[int]]
) -> None:
    progress: list[LoadProgress] = []
    computation = on_double(loaded, True, progress.append)
    try:
        assert told == ["kernels for 6 rows of 2048 tokens", "compile"]
        assert computation.description == (
            "transformers' code, attention of a double, torch.compile, 5 CUDA graphs"
        )
        assert computation.replayed_tokens == 64
        assert "12,345 for steps of 64 tokens" in computation.arithmetic
        stages = list(dict.fromkeys(each.stage for each in progress))
        assert stages == [
            "trying the kernels",
            "measuring a step",
            "compiling kernels",
            "capturing CUDA graphs",
        ]
        assert progress[-1] == LoadProgress("capturing CUDA graphs", 1.0)
        assert tokens_of(computation, loaded.model.config.vocab_size) == expected
        assert recorder.replayed > 0
    finally:
        computation.close()


def test_a_model_that_waits_for_the_device_runs_without_graphs_and_says_why(
    loaded: LoadedModel,
    told: list[str],
    recorder: Repeater,
    expected: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = loaded.model.forward

    def looks(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        assert output.logits.sum().item() != 0.5
        return output

    monkeypatch.setattr(loaded.model, "forward", looks)
    computation = on_double(loaded)
    try:
        assert "no CUDA graphs: aten._local_scalar_dense" in computation.description
        assert computation.replayed_tokens == 0
        assert tokens_of(computation, loaded.model.config.vocab_size) == expected
        assert recorder.replayed == 0
    finally:
        computation.close()


def test_a_model_that_waits_only_with_prompts_has_graphs_for_decode(
    loaded: LoadedModel,
    told: list[str],
    recorder: Repeater,
    expected: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = loaded.model.forward

    def looks(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        if kwargs["input_ids"].shape[1] > WISH.max_running:
            assert output.logits.sum().item() != 0.5
        return output

    monkeypatch.setattr(loaded.model, "forward", looks)
    computation = on_double(loaded)
    try:
        assert "4 CUDA graphs; no CUDA graphs for prompts: aten" in computation.description
        assert computation.replayed_tokens == 0
        assert tokens_of(computation, loaded.model.config.vocab_size) == expected
        assert recorder.replayed > 0
    finally:
        computation.close()


@pytest.mark.parametrize("recorded", [0, 1, 2, 3], ids=lambda count: f"{count} recorded")
def test_a_graph_that_cannot_be_recorded_leaves_a_model_that_runs(
    loaded: LoadedModel,
    told: list[str],
    expected: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
    recorded: int,
) -> None:
    """The first two are recorded where it is measured what graphs take."""

    class Refusing(Repeater):
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            nonlocal recorded
            recorded -= 1
            if recorded < 0:
                raise torch.AcceleratorError("operation not permitted when stream is capturing")
            return super().record(work)

    refusing = Refusing()
    monkeypatch.setattr(on_cuda, "CudaRecorder", lambda device: refusing)
    computation = on_double(loaded)
    try:
        assert "no CUDA graphs: operation not permitted" in computation.description
        assert tokens_of(computation, loaded.model.config.vocab_size) == expected
    finally:
        computation.close()


@pytest.mark.parametrize(("free_bytes", "running"), [(10**9, 6), (330_000, 4)])
def test_a_model_with_states_runs_as_many_requests_as_it_has_memory_for(
    told: list[str], monkeypatch: pytest.MonkeyPatch, free_bytes: int, running: int
) -> None:
    hybrid = tiny_hybrid("qwen3_next")
    plain = build_computation(hybrid, cache_shape(hybrid), WISH)
    expected = tokens_of(plain, 128)
    plain.close()
    memory = FakeMemory(free_bytes=free_bytes)
    monkeypatch.setattr(on_cuda, "DeviceMemory", lambda device: memory)
    computation = on_double(hybrid)
    try:
        pool = computation.cache.states
        assert pool is not None
        assert pool.max_rows == running
        assert "recurrent states × 14,336 bytes" in computation.arithmetic
        assert told == [f"kernels for {running} rows of 256 tokens"]
        assert tokens_of(computation, 128) == expected
    finally:
        computation.close()


def test_a_device_without_room_is_a_broken_model_with_the_arithmetic(
    loaded: LoadedModel, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = loaded.model.config._attn_implementation
    monkeypatch.setattr(on_cuda, "DeviceMemory", lambda device: FakeMemory(free_bytes=20_000))
    with pytest.raises(ModelBroken, match=r"no room for the KV cache.*20,000 bytes free"):
        on_double(loaded)
    assert loaded.model.config._attn_implementation == attention, "the model is as it was"


def test_a_device_without_room_for_a_step_is_a_broken_model(
    loaded: LoadedModel, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FakeMemory, work: Callable[[], object]) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")

    monkeypatch.setattr(FakeMemory, "peak_of", full)
    with pytest.raises(ModelBroken, match=r"largest step .*Tried to allocate 3\.00 GiB.*lower"):
        on_double(loaded)
