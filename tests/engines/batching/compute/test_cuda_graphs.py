"""Replayed decode gives what eager decode gives: with a recorder that only runs the work again, and
on a GPU with real graphs."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import ClassVar
from unittest import mock

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
from llmserve.engines.batching.compute.cuda import decode_buffers
from llmserve.engines.batching.compute.cuda.compiled import compiled
from llmserve.engines.batching.compute.cuda.decode_buffers import Bucket, DecodeBuffers, buckets
from llmserve.engines.batching.compute.cuda.graphs import (
    CudaRecorder,
    GraphedForward,
    capture_stream,
)
from llmserve.engines.batching.compute.cuda.splits import LONGEST_PART
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence


class Refusing:
    """A device on which the third graph cannot be captured."""

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        self.recorded += 1
        if self.recorded == 3:
            raise RuntimeError("operation not permitted when stream is capturing")
        return work


def make_buffers() -> DecodeBuffers:
    return DecodeBuffers(buckets(MAX_ROWS, MAX_CONTEXT), MAX_CONTEXT // BLOCK_SIZE, CPU)


def decode_batch(sequences: list[Sequence], device: torch.device = CPU) -> Batch:
    parts = [Slice(each, each.num_tokens - 1, 1, is_sampled=True) for each in sequences]
    return Batch.from_plan(StepPlan(tuple(parts)), BLOCK_SIZE, device)


def prefill_batch(sequences: list[Sequence], device: torch.device = CPU) -> Batch:
    parts = [Slice(each, 0, each.num_tokens, is_sampled=True) for each in sequences]
    parts.sort(key=lambda part: part.length > 1)
    return Batch.from_plan(StepPlan(tuple(parts)), BLOCK_SIZE, device)


@torch.inference_mode()
def assert_same_life(
    eager: Forward, eager_cache: KVCache, graphed: Forward, graphed_cache: KVCache, device: str
) -> None:
    """Prompts, then steps whose rows join and leave; logits and caches stay the same."""
    sequences, target = make_sequences(MAX_ROWS), torch.device(device)
    first = prefill_batch(sequences, target)
    expected = eager(first, eager_cache)
    torch.testing.assert_close(graphed(first, graphed_cache), expected)
    for count in (10, 3, 1, 9, 2, 10):
        running = sequences[-count:]
        for each in running:
            each.token_ids.append((5 * each.num_tokens) % 64)
        batch = decode_batch(running, target)
        expected = eager(batch, eager_cache)
        actual = graphed(batch, graphed_cache)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(actual.argmax(-1), expected.argmax(-1))
    for one, other in zip(eager_cache.keys, graphed_cache.keys, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_buckets_are_close_together_and_end_at_the_largest_batch() -> None:
    def rows(most: int) -> list[int]:
        return [bucket.rows for bucket in buckets(most, 100)]

    assert rows(1) == [1]
    assert rows(8) == [1, 2, 4, 8]
    assert rows(20) == [1, 2, 4, 8, 16, 20]
    assert rows(300)[-4:] == [256, 272, 288, 300]


def test_batches_with_a_long_context_have_buckets_of_their_own() -> None:
    made = buckets(20, 100_000)
    lengths = sorted({bucket.max_context for bucket in made})
    assert lengths == [LONGEST_PART, 4 * LONGEST_PART, 16 * LONGEST_PART, 100_000]
    for length in lengths:
        assert [b.rows for b in made if b.max_context == length] == [1, 2, 4, 8, 16, 20]
    assert made == sorted(made)
    assert {bucket.max_context for bucket in buckets(20, 4000)} == {4000}
    assert {bucket.max_context for bucket in buckets(20, 5000)} == {LONGEST_PART, 5000}


@torch.inference_mode()
def test_replayed_decode_is_equal_to_eager_decode() -> None:
    recorder = Repeater()
    with make_forward() as forward:
        eager_cache, cache = make_cache(), make_cache()
        graphed = make_graphed(forward, cache, recorder)
        graphed.capture()
        assert_same_life(forward, eager_cache, graphed, cache, "cpu")
    assert recorder.replayed == 6


@torch.inference_mode()
def test_capture_tells_its_progress_and_leaves_the_cache_untouched() -> None:
    told: list[tuple[int, int]] = []
    with make_forward() as forward:
        cache = make_cache()
        graphed = make_graphed(forward, cache, Repeater())
        graphed.capture(lambda done, total: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert graphed.num_graphs == 5
    assert not any(tensor.any() for tensor in (*cache.keys, *cache.values))


@torch.inference_mode()
def test_a_model_that_cannot_be_captured_runs_eagerly() -> None:
    with make_forward() as forward:
        eager_cache, cache = make_cache(), make_cache()
        graphed = make_graphed(forward, cache, Refusing())
        assert graphed.capture() == "operation not permitted when stream is capturing"
        assert graphed.num_graphs == 0
        assert_same_life(forward, eager_cache, graphed, cache, "cpu")


@torch.inference_mode()
def test_what_is_no_full_decode_step_runs_eagerly() -> None:
    recorder = Repeater()
    sequences = make_sequences(MAX_ROWS + 1)
    decode = decode_batch(sequences[:3])
    wide = torch.zeros(3, MAX_CONTEXT // BLOCK_SIZE + 1, dtype=torch.int32)
    others = [
        prefill_batch(sequences[:3]),
        decode_batch(sequences),  # a row too many
        dataclasses.replace(decode, sampled=decode.sampled[:2]),  # a chunk's last token
        dataclasses.replace(decode, block_tables=wide),
    ]
    with make_forward() as forward:
        cache = make_cache()
        graphed = make_graphed(forward, cache, recorder)
        graphed.capture()
        for batch in others:
            assert graphed(batch, cache).shape == (batch.sampled.shape[0], 64)
        graphed(decode, make_cache())  # not the cache that was captured
        assert recorder.replayed == 0
        graphed(decode, cache)
    assert recorder.replayed == 1


def test_a_batch_is_replayed_by_the_smallest_graph_that_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode_buffers, "LONGEST_PART", 16)
    steps = make_buffers()
    few, many = make_sequences(2), make_sequences(MAX_ROWS)
    assert steps.find(decode_batch(few)) == Bucket(2, 16)
    assert steps.find(decode_batch(many[:3])) == Bucket(4, 16)
    assert steps.find(decode_batch(many)) == Bucket(MAX_ROWS, 32)
    assert steps.find(decode_batch(many[:9])) == Bucket(MAX_ROWS, 32)


def test_rows_past_the_batch_read_and_write_nothing() -> None:
    buffers = make_buffers()
    buffers.load(decode_batch(make_sequences(8)), Bucket(8, 32))
    buffers.load(decode_batch(make_sequences(3)), Bucket(4, 32))
    view = buffers.view(Bucket(4, 32))
    assert view.slots.tolist()[3:] == [-1]
    assert view.context_lengths.tolist() == [1, 4, 7, 0]
    assert view.query_starts.tolist() == [0, 1, 2, 3, 4]
    assert view.sampled.tolist() == [0, 1, 2, 3]


class FakeGraph:
    """Raises where it is to end if something broke it, as torch's does before its allocator is
    told."""

    told: ClassVar[list[str]] = []
    is_broken = True

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local"

    def capture_end(self) -> None:
        self.told.append("end")
        if self.is_broken:
            raise torch.AcceleratorError("operation failed due to a previous error during capture")

    def replay(self) -> None:
        self.told.append("replay")


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeGraph]]:
    class Graph(FakeGraph):
        told: ClassVar[list[str]] = []

    stream = mock.MagicMock(device=torch.device("cuda:1"))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: mock.MagicMock())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(
            torch._C,
            name,
            lambda index, pool, name=name: Graph.told.append(f"{name} {index} {pool}"),
            raising=False,
        )
    capture_stream.cache_clear()
    yield Graph
    capture_stream.cache_clear()


GIVEN_BACK = ["end", "_cuda_endAllocateToPool 1 (0, 7)", "_cuda_releasePool 1 (0, 7)"]


@pytest.mark.parametrize("failing", [1, 2, 99])
def test_a_broken_capture_gives_the_allocator_back(
    fake_cuda: type[FakeGraph], failing: int
) -> None:
    """Whether the work raises where it runs first, where it is recorded, or not at all."""
    calls = []

    def work() -> None:
        calls.append(1)
        if len(calls) == failing:
            raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, torch.AcceleratorError)) as raised:
        CudaRecorder(torch.device("cuda:1")).record(work)
    assert raised.type is (torch.AcceleratorError if failing == 99 else ZeroDivisionError)
    assert fake_cuda.told == ([] if failing == 1 else GIVEN_BACK)


def test_a_capture_that_ends_well_is_left_alone(fake_cuda: type[FakeGraph]) -> None:
    fake_cuda.is_broken = False
    recorder = CudaRecorder(torch.device("cuda:1"))
    recorder.record(lambda: None)()
    assert fake_cuda.told == ["end", "replay"]
    fake_cuda.told.clear()
    work = mock.Mock(side_effect=[None, ZeroDivisionError])
    with pytest.raises(ZeroDivisionError):
        recorder.record(work)
    assert fake_cuda.told == ["end"], "torch has given it back"


def test_models_of_a_device_record_on_one_stream_one_after_the_other(
    fake_cuda: type[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cuda.is_broken = False
    streams: list[torch.device] = []

    def made(device: torch.device) -> mock.MagicMock:
        streams.append(device)
        return mock.MagicMock(device=device)

    monkeypatch.setattr(torch.cuda, "Stream", made)
    one, two, other = (CudaRecorder(torch.device("cuda", index)) for index in (0, 0, 1))
    assert streams == [torch.device("cuda:0"), torch.device("cuda:1")]
    inside, may_end = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        assert may_end.wait(30)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.record, work)
        assert inside.wait(30)
        second = pool.submit(two.record, lambda: None)
        other.record(lambda: None)
        assert not second.done()
        may_end.set()
        first.result(30)
        second.result(30)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("is_compiled", [False, True])
@torch.inference_mode()
def test_captured_decode_is_equal_to_eager_decode(is_compiled: bool) -> None:
    device = torch.device("cuda")
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
                device=device,
            )
            graphed.capture()
            assert graphed.num_graphs == len(buckets(MAX_ROWS, MAX_CONTEXT))
            assert_same_life(eager, make_cache(device), graphed, cache, "cuda")
        finally:
            forward.close()
            torch.compiler.reset()
