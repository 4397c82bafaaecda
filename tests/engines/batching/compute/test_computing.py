"""What a CUDA device is given, put together from doubles that a CPU can run: the order of things,
and that the tokens stay the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cuda_doubles import Repeater, SkippingCache

pytest.importorskip("triton", reason="triton is missing; pip install triton")

from llmserve.domain import LoadProgress, ModelSpec, SamplingParams
from llmserve.engines.batching.compute import computing as module
from llmserve.engines.batching.compute.attention import TorchAttention
from llmserve.engines.batching.compute.computing import CacheWish, Computing, build_computing
from llmserve.engines.batching.compute.cuda import attention, compiled, flash, graphs, kv_write
from llmserve.engines.batching.compute.row_sampling import RowSampling
from llmserve.engines.batching.compute.support import layer_shapes
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence as TokenSequence
from llmserve.engines.loading import LoadedModel, load_model

GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
WISH = CacheWish(block_size=4, max_running=6)
PROMPTS = ([5, 6, 7], [9] * 11, [3])


@pytest.fixture
def recorder() -> Repeater:
    return Repeater()


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch, recorder: Repeater) -> list[str]:
    """What happened of what only a GPU can do, in its order."""
    told: list[str] = []

    def activate(device: torch.device, block_size: int) -> str:
        told.append(f"flash for blocks of {block_size}")
        return "FA3"

    def compile_layers(model: object) -> None:
        told.append("compile")

    def attend(device: torch.device) -> TorchAttention:
        told.append("attention")
        return TorchAttention()

    monkeypatch.setattr(graphs, "CudaRecorder", lambda device: recorder)
    monkeypatch.setattr(attention, "CudaAttention", attend)
    monkeypatch.setattr(compiled, "compiled", compile_layers)
    monkeypatch.setattr(flash, "activate_paged", activate)
    monkeypatch.setattr(kv_write, "CudaKVCache", SkippingCache)
    return told


@pytest.fixture
def loaded(tiny_model: Path) -> LoadedModel:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", device="cpu")
    return load_model(spec, tiny_model, lambda progress: None)


def tokens_of(computing: Computing, vocab: int) -> list[list[int]]:
    scheduler = Scheduler(
        num_blocks=computing.cache.num_blocks,
        block_size=WISH.block_size,
        max_tokens_per_step=8,
        max_sequences=WISH.max_running,
    )
    sequences: Sequence[TokenSequence] = [
        TokenSequence(
            list(prompt),
            len(prompt),
            request=RowSampling(GREEDY, prompt, (), vocab, torch.device("cpu")),
        )
        for prompt in PROMPTS
    ]
    for sequence in sequences:
        scheduler.add(sequence)
    for _ in range(12):
        plan = scheduler.plan()
        rows = [part.sequence.request for part in plan.slices if part.is_sampled]
        choices = computing.run(computing.prepare(plan), rows)
        scheduler.commit(plan, [choice.token_id or 0 for choice in choices])
    return [sequence.token_ids for sequence in sequences]


def test_a_cuda_device_gets_kernels_graphs_and_compiled_layers(
    loaded: LoadedModel, doubles: list[str], recorder: Repeater
) -> None:
    layers = layer_shapes(loaded)
    vocab = loaded.model.config.vocab_size
    plain = build_computing(loaded, layers, WISH)
    expected = tokens_of(plain, vocab)
    plain.close()
    progress: list[LoadProgress] = []
    on_cuda = module._on_cuda(loaded, layers, WISH, True, progress.append)
    try:
        assert doubles == ["flash for blocks of 4", "attention", "compile"]
        assert on_cuda.description == (
            "transformers' code, FA3 and Triton attention, 4 CUDA graphs, torch.compile"
        )
        assert progress[-1] == LoadProgress("capturing CUDA graphs", 1.0)
        assert tokens_of(on_cuda, vocab) == expected
        assert recorder.replayed > 0
    finally:
        on_cuda.close()


def test_without_triton_a_cuda_device_still_serves(
    loaded: LoadedModel, doubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = layer_shapes(loaded)
    monkeypatch.setitem(sys.modules, attention.__name__, None)
    on_cuda = module._on_cuda(loaded, layers, WISH, False, lambda progress: None)
    try:
        assert on_cuda.description == "transformers' code, attention in torch (no Triton)"
        assert doubles == []
        assert all(len(ids) > 1 for ids in tokens_of(on_cuda, loaded.model.config.vocab_size))
    finally:
        on_cuda.close()
