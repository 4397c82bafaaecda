"""Replayed steps with prompts give what eager ones give: with a recorder that only runs the work
again, and on a GPU with real graphs."""

from __future__ import annotations

import random

import pytest
import torch
from cuda_doubles import Repeater
from graph_subject import (
    BLOCK_SIZE,
    CPU,
    MAX_CONTEXT,
    MAX_ROWS,
    make_attention,
    make_cache,
    make_forward,
    make_graphed,
    make_model,
    make_sequences,
)

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda import prompt_buffers
from llmserve.engines.batching.compute.cuda.compiled import compiled
from llmserve.engines.batching.compute.cuda.graphs import CudaRecorder, GraphedForward
from llmserve.engines.batching.compute.cuda.prompt_buffers import (
    MAX_PROMPTS,
    PromptBucket,
    PromptBuffers,
    prompt_buckets,
)
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.scoring import Scoring
from llmserve.engines.batching.schedule.sequence import Sequence

MOST_TOKENS = 64
BUCKETS = prompt_buckets(MAX_ROWS, MAX_CONTEXT, MOST_TOKENS)


def batch_of(lengths: dict[Sequence, int], device: torch.device = CPU) -> Batch:
    """The next so many tokens of each."""
    parts = [
        Slice(each, each.num_computed, n, is_sampled=each.num_computed + n == each.num_tokens)
        for each, n in lengths.items()
    ]
    parts.sort(key=lambda part: part.length > 1)
    return Batch.from_plan(StepPlan(tuple(parts)), BLOCK_SIZE, device)


def make_buffers(buckets: list[PromptBucket] = BUCKETS) -> PromptBuffers:
    return PromptBuffers(buckets, MAX_CONTEXT // BLOCK_SIZE, CPU)


@torch.inference_mode()
def assert_same_life(
    eager: Forward, eager_cache: KVCache, graphed: Forward, graphed_cache: KVCache, device: str
) -> int:
    """Prompts are read in pieces beside rows that decode; logits and caches stay the same. Returns
    how many steps had prompts."""
    rng, sequences, with_prompts = random.Random(5), make_sequences(MAX_ROWS), 0
    for _ in range(24):
        lengths: dict[Sequence, int] = {}
        for each in sequences:
            left = each.num_tokens - each.num_computed
            if left == 0 and each.num_tokens < MAX_CONTEXT:
                each.token_ids.append(rng.randrange(64))
                lengths[each] = 1
            elif left and rng.random() < 0.4:
                lengths[each] = min(left, rng.randint(1, 9))
        if not lengths:
            continue
        with_prompts += max(lengths.values()) > 1
        batch = batch_of(lengths, torch.device(device))
        expected = eager(batch, eager_cache)
        actual = graphed(batch, graphed_cache)
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(actual.argmax(-1), expected.argmax(-1))
        for each, length in lengths.items():
            each.num_computed += length
    assert all(each.num_computed >= len(each.token_ids) - 1 for each in sequences)
    for one, other in zip(eager_cache.keys, graphed_cache.keys, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    return with_prompts


@torch.inference_mode()
def test_replayed_steps_with_prompts_are_equal_to_eager_ones() -> None:
    recorder = Repeater()
    with make_forward() as forward:
        eager_cache, cache = make_cache(), make_cache()
        graphed = make_graphed(forward, cache, recorder, MOST_TOKENS)
        assert graphed.max_prompt_tokens == 0, "nothing is captured yet"
        graphed.capture()
        assert graphed.max_prompt_tokens == MOST_TOKENS
        replayed = recorder.replayed
        with_prompts = assert_same_life(forward, eager_cache, graphed, cache, "cpu")
    assert with_prompts > 5
    assert recorder.replayed - replayed > with_prompts


@torch.inference_mode()
def test_capture_leaves_the_cache_untouched() -> None:
    with make_forward() as forward:
        cache = make_cache()
        graphed = make_graphed(forward, cache, Repeater(), MOST_TOKENS)
        graphed.capture()
        assert graphed.num_graphs == graphed.num_buckets == 5 + len(BUCKETS)
        assert not any(tensor.any() for tensor in (*cache.keys, *cache.values))


def test_the_largest_bucket_is_last_and_no_larger_than_a_step() -> None:
    made = prompt_buckets(256, 100_000, 600)
    assert [(b.max_context, b.rows, b.tokens) for b in made] == [
        (context, rows, tokens)
        for context in (4096, 65_536)
        for rows in (32, 256)
        for tokens in (64, 256, 512)
    ]
    assert {b.max_context for b in prompt_buckets(256, 2000, 600)} == {2000}
    assert {b.rows for b in prompt_buckets(8, 2000, 600)} == {8}
    assert prompt_buckets(8, 2000, 63) == []


def test_a_batch_gets_the_smallest_graph_that_takes_it() -> None:
    buffers = PromptBuffers(prompt_buckets(64, 40_000, 600), 40_000 // BLOCK_SIZE, CPU)

    def found(decode: int, prompts: list[int], context: int = 0) -> PromptBucket | None:
        lengths = {Sequence([1, 2], blocks=[0], num_computed=1): 1 for _ in range(decode)}
        for length in prompts:
            size = max(length, context)
            blocks = [0] * -(-size // BLOCK_SIZE)
            lengths[Sequence([1] * size, blocks=blocks, num_computed=size - length)] = length
        return buffers.find(batch_of(lengths))

    assert found(0, [2]) == PromptBucket(4096, 32, 64)
    assert found(32, [40, 24]) == PromptBucket(4096, 32, 64)
    assert found(33, [40, 25]) == PromptBucket(4096, 64, 256)
    assert found(3, [500], 5000) == PromptBucket(40_000, 32, 512)
    assert found(65, [2]) is None
    assert found(0, [600]) is None
    assert found(0, [2] * (MAX_PROMPTS + 1)) is None
    assert found(0, [500], 10_000) is None, "FlashAttention is better there"
    assert found(5, []) is None


def test_prompts_that_are_scored_run_eagerly() -> None:
    prompt = Sequence([1] * 9, blocks=[0, 1, 2], scoring=Scoring(1, 8))
    part = Slice(prompt, 0, 9, is_sampled=True, scored=range(8))
    assert make_buffers().find(Batch.from_plan(StepPlan((part,)), BLOCK_SIZE, CPU)) is None
    plain = Slice(prompt, 0, 9, is_sampled=True)
    assert make_buffers().find(Batch.from_plan(StepPlan((plain,)), BLOCK_SIZE, CPU)) is not None


def test_what_is_beyond_the_batch_reads_and_writes_nothing() -> None:
    bucket = BUCKETS[0]
    assert bucket == PromptBucket(32, MAX_ROWS, 64)
    buffers = make_buffers()
    buffers.load(batch_of({each: each.num_tokens for each in make_sequences(6)}), bucket)
    few = make_sequences(3)[1:]  # of 4 and 7 tokens
    decoding = make_sequences(2)[1]
    decoding.num_computed = 3
    buffers.load(batch_of({decoding: 1, few[0]: 3, few[1]: 7}), bucket)
    view = buffers.view(bucket)
    starts, rows = view.query_starts.tolist(), MAX_ROWS + MAX_PROMPTS + 1
    assert starts[: MAX_ROWS + 1] == list(range(MAX_ROWS + 1))
    assert starts[MAX_ROWS:] == [10, 13, *[20] * (MAX_PROMPTS - 1), 10 + 64]
    assert view.context_lengths.tolist() == [4, *[0] * 9, 3, 7, *[0] * (rows - 12)]
    assert view.slots.tolist()[1:10] == [-1] * 9
    assert min(view.slots.tolist()[10:20]) >= 0
    assert view.slots.tolist()[20:] == [-1] * 54
    # The row that decodes, and the second prompt's last token; the first one's end is not reached.
    assert view.sampled.tolist() == [0, 19, *[0] * (MAX_ROWS + MAX_PROMPTS - 2)]
    assert view.token_ids.tolist()[10:13] == few[0].token_ids[:3]
    assert view.block_tables.tolist()[11][:2] == few[1].blocks[:2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("is_compiled", [False, True])
@torch.inference_mode()
def test_captured_steps_with_prompts_are_equal_to_eager_ones(
    is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda")
    monkeypatch.setattr(prompt_buffers, "PROMPT_TOKENS", (16, 64))
    monkeypatch.setattr(prompt_buffers, "DECODE_ROWS", (4,))
    with make_forward(device) as eager:
        model = make_model(device)
        forward = TransformersForward(model, make_attention(device))
        try:
            if is_compiled:
                compiled(model)
            cache = make_cache(device)
            graphed = GraphedForward(
                forward,
                cache,
                CudaRecorder(device),
                max_rows=MAX_ROWS,
                max_context=MAX_CONTEXT,
                max_prompt_tokens=MOST_TOKENS,
                device=device,
            )
            assert graphed.capture() is None
            assert graphed.max_prompt_tokens == MOST_TOKENS
            assert_same_life(eager, make_cache(device), graphed, cache, "cuda")
        finally:
            forward.close()
            torch.compiler.reset()
