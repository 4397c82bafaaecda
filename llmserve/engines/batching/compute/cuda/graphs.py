"""Steps as CUDA graphs, one per batch bucket: launched at once, not kernel by kernel."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial
from typing import Any, Final, Protocol, TypeVar

import torch
from loguru import logger

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.decode_buffers import DecodeBuffers, buckets
from llmserve.engines.batching.compute.cuda.prompt_buffers import PromptBuffers, prompt_buckets
from llmserve.engines.batching.compute.cuda.syncs import RefuseSyncs
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.frames import forget_frames


class GraphRecorder(Protocol):
    """Records work on fixed memory."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do the work at least once; the function that is returned does it again.

        Raises:
            RuntimeError: the work cannot be recorded (it waits for the device, say).
        """
        ...


class CaptureStream:
    """The stream on which a device's graphs are recorded, for one thread at a time.

    All models of a process share it: cuBLAS keeps workspaces of 64 MiB (on an H100) for each stream
    that it has seen, so that models that come and go would cost more with every load. Graphs of two
    models may use the same workspace: all are replayed on the default stream, one at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own stub
        self.lock = threading.Lock()


capture_stream = cache(CaptureStream)
"""Of a device, with its index."""


class CudaRecorder:
    """A CUDA graph for each work; all share one memory pool, as only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        shared = capture_stream(device)
        self._stream, self._lock = shared.stream, shared.lock

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            return self._record(work)

    def _record(self, work: Callable[[], None]) -> Callable[[], None]:
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # Outside the graph first: kernels are compiled and libraries allocate workspaces.
            work()
            self._stream.synchronize()
            # Other threads use the device meanwhile (another model loads): their calls are fine.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            except BaseException:
                # The capture has to end, or the allocator would go on recording; the error that
                # broke it is the one to raise.
                with contextlib.suppress(RuntimeError):
                    self._end(graph)
                raise
            self._end(graph)
        current.wait_stream(self._stream)
        return graph.replay

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            graph.capture_end()
        except RuntimeError:
            # The capture is broken: torch (2.11 and 2.13) raises before it tells its allocator,
            # which would go on recording, keep the pool for ever and use the dead graph.
            _broken.append(graph)
            for give_back in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
                with contextlib.suppress(RuntimeError, AttributeError):
                    getattr(torch._C, give_back)(self._stream.device.index, self._pool)
            raise


_broken: Final[list[torch.cuda.CUDAGraph]] = []
"""They hold no memory of the device."""


BucketT = TypeVar("BucketT", bound=Hashable)


class StepBuffers(Protocol[BucketT]):
    """The fixed memory that the graphs of one kind of step read their batches from.

    `buckets` are what graphs are captured for, the largest last.
    """

    @property
    def buckets(self) -> Sequence[BucketT]: ...

    def find(self, batch: Batch) -> BucketT | None:
        """The smallest bucket into which a batch fits, if it is of this kind."""
        ...

    def view(self, bucket: BucketT) -> Batch:
        """The batch with which a bucket's graph is captured."""
        ...

    def load(self, batch: Batch, bucket: BucketT) -> None:
        """Copy a batch for which `find` gave the bucket."""
        ...

    def clear(self, bucket: BucketT) -> None:
        """Turn it into a batch that reads and writes nothing."""
        ...


class GraphedForward:
    """A `Forward` that replays graphs; another one computes what they do not hold.

    Graphs are for steps without adapters: for pure decode, and for up to `max_prompt_tokens` of
    prompts, if that is not 0 and the model keeps no states. The logits it returns are overwritten
    by its next call. Owned by the thread that runs the model; `capture` is called before the first
    batch, in that thread.
    """

    def __init__(
        self,
        forward: Forward,
        cache: KVCache,
        recorder: GraphRecorder,
        *,
        max_rows: int,
        max_context: int,
        max_prompt_tokens: int = 0,
        device: torch.device,
    ) -> None:
        self._forward = forward
        self._cache = cache
        self._recorder = recorder
        max_blocks = -(-max_context // cache.block_size)
        context = max_blocks * cache.block_size
        has_states = cache.states is not None
        decode = DecodeBuffers(
            buckets(max_rows, context), max_blocks, device, has_states=has_states
        )
        self._kinds: list[StepBuffers[Any]] = [decode]
        # Pieces of prompts with states are rows of any length, so that no graph holds them.
        most = 0 if has_states else max_prompt_tokens
        prompts = prompt_buckets(max_rows, context, most)
        if prompts:
            self._kinds.append(PromptBuffers(prompts, max_blocks, device))
        self._max_prompt_tokens = max((bucket.tokens for bucket in prompts), default=0)
        self._steps = [(kind, bucket) for kind in self._kinds for bucket in kind.buckets]
        self._replays: dict[Hashable, Callable[[], None]] = {}
        self._logits: torch.Tensor | None = None  # (rows of the largest, vocab) float32

    @property
    def num_graphs(self) -> int:
        """Captured so far; 0 when the model cannot be captured."""
        return len(self._replays)

    @property
    def num_buckets(self) -> int:
        """How many graphs `capture` makes."""
        return len(self._steps)

    @property
    def max_prompt_tokens(self) -> int:
        """Of the largest graph with prompts; 0 when there is none."""
        return self._max_prompt_tokens if self._replays else 0

    @torch.inference_mode()
    def capture(
        self, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> str | None:
        """Capture every bucket, reporting how many of how many are done.

        A model that cannot be captured runs as before; the reason is returned and logged.
        """
        for done in range(1, self.num_buckets + 1):
            try:
                self.capture_next()
            # The model's code may raise anything while it is recorded; without, it ran.
            except Exception as error:
                logger.warning(
                    "steps run without CUDA graphs, the model cannot be captured: {}", error
                )
                self._replays.clear()
                self._logits = None
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                forget_frames(error)
                return reason
            on_progress(done, self.num_buckets)
        return None

    @torch.inference_mode()
    def capture_next(self) -> None:
        """Capture the largest bucket that is missing. The first one makes the pool large enough for
        all others.

        Raises:
            Exception: whatever the model's code or the device raises while it is recorded.
        """
        kind, bucket = self._steps[-1 - len(self._replays)]
        kind.clear(bucket)
        self._replays[bucket] = self._recorder.record(partial(self._step, kind, bucket))

    @torch.inference_mode()
    def check_capturable(self) -> None:
        """Run a step of each kind that may not wait for the device.

        Raises:
            WaitsForDevice: the model's code would, so that no graph can be recorded.
        """
        for kind in self._kinds:
            bucket = kind.buckets[0]
            kind.clear(bucket)
            with RefuseSyncs():  # type: ignore[no-untyped-call]  # torch's own stub
                self._forward(kind.view(bucket), self._cache)

    def __call__(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        if self._replays and cache is self._cache and not batch.segments:
            for kind in self._kinds:
                bucket = kind.find(batch)
                if bucket is not None:
                    kind.load(batch, bucket)
                    self._replays[bucket]()
                    assert self._logits is not None, "graphs write logits"
                    return self._logits[: batch.sampled.shape[0]]
        return self._forward(batch, cache)

    def _step(self, kind: StepBuffers[BucketT], bucket: BucketT) -> None:
        logits = self._forward(kind.view(bucket), self._cache)
        if self._logits is None:
            self._logits = torch.empty_like(logits)
        # One buffer for all buckets: graphs could not share the memory of outputs of their own.
        self._logits[: logits.shape[0]].copy_(logits)
