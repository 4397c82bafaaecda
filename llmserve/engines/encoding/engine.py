"""EncodingEngine: one batch loop on a few threads encodes the inputs of all requests of a model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import torch
from loguru import logger

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    EncodingAnswer,
    EncodingPurpose,
    EncodingRequest,
    EngineInfo,
    EngineKind,
    EngineStats,
    LoadProgress,
    ModelSpec,
    Prompt,
    TextPair,
    Truncation,
    WarmReport,
)
from llmserve.engines.accelerator import make_current
from llmserve.engines.encoder import Encoder
from llmserve.engines.encoding.answers import Answers
from llmserve.engines.encoding.computation import EncoderComputation
from llmserve.engines.encoding.fitting import fitting
from llmserve.engines.encoding.loading import LoadedEncoder, load_encoder
from llmserve.engines.encoding.loop import EncodingLoop
from llmserve.engines.encoding.packing import packing_for
from llmserve.engines.encoding.task_builder import EncodingTaskBuilder
from llmserve.engines.encoding_job import EncodingJob, EncodingOutcome
from llmserve.engines.encoding_task import EncodingTask
from llmserve.engines.engine import Hold
from llmserve.engines.failure import release_memory
from llmserve.engines.loop_thread import watch
from llmserve.engines.options import EngineOptions
from llmserve.engines.preparation import QUICK_COUNT, PreparationPool
from llmserve.engines.private_job import unloaded
from llmserve.engines.progress import OnProgress, interruptible
from llmserve.engines.wakes import Wakes
from llmserve.engines.warmup import DEFAULT_WARMUP
from llmserve.engines.weights.fingerprint import fingerprint
from llmserve.errors import (
    DeviceLost,
    LLMServeError,
    ModelBroken,
    ModelUnloaded,
    WaitTimeout,
)
from llmserve.text.tokenizer import Tokenizer
from llmserve.timer import awake_timeout

CPU_BATCH_TOKENS: Final = 1024
"""Four times as many are a twentieth faster, and keep who comes meanwhile waiting four times as
long."""
GPU_BATCH_TOKENS: Final = 16_384
MOST_THREADS: Final = 16
"""That compute batches at once; with more processors, each has several."""
LEAST_SECONDS: Final = 1.0
"""For texts to become tokens, however short their request's time is."""
NO_PREFIXES: Final = "a model that encodes keeps no prefixes"

T = TypeVar("T")


class EncodingEngine(Encoder):
    """The batch loop's threads own the model; the event loop talks to them through `EncodingLoop`.

    On a CPU there are as many as processors, each of which computes a batch on its own; where there
    is one batch alone, the first has all processors. On a GPU there is one.
    """

    def __init__(self, spec: ModelSpec, options: EngineOptions, *, why: str) -> None:
        self._spec = spec
        self._options = options
        self._why = why
        self._loaded: LoadedEncoder | None = None
        self._builder: EncodingTaskBuilder | None = None
        self._computation: EncoderComputation | None = None
        self._capacity = options.slots(EngineKind.ENCODING)
        self._budget = 0
        self._step_bytes = 0
        self._prompts = PreparationPool(spec.name)
        self._loop: EncodingLoop | None = None
        self._running: set[EncodingJob] = set()
        self._is_closing = False
        name = f"generate-encode-{spec.name}"
        self._num_threads = options.threads()
        set_threads = partial(torch.set_num_threads, self._num_threads)
        self._pool = ThreadPoolExecutor(1, name, set_threads)
        self._num_helpers = min(self._num_threads, MOST_THREADS) - 1
        self._helpers = ThreadPoolExecutor(max(1, self._num_helpers), f"{name}-beside")
        self._thread: asyncio.Future[list[None]] | None = None

    @property
    def capacity(self) -> int:
        """Requests whose inputs are in line."""
        return self._capacity

    @property
    def can_pause(self) -> bool:
        """Inputs of background work wait in the line while there are others."""
        return True

    @property
    def purposes(self) -> tuple[EncodingPurpose, ...]:
        return self._model.encoding.purposes

    @property
    def info(self) -> EngineInfo:
        """What was loaded."""
        loaded = self._model
        return EngineInfo(
            kind=EngineKind.ENCODING,
            why=f"{self._why}; batches of {self._budget:,} tokens, {self._layout}",
            device=loaded.placement,
            dtype=loaded.dtype,
            max_context=loaded.max_context,
            parameters=loaded.parameters,
            weight_bytes=loaded.weight_bytes,
            step_bytes=self._step_bytes,
            warnings=loaded.warnings,
            fingerprint=fingerprint(
                loaded.hash_of_files, EngineKind.ENCODING, loaded.device.type, loaded.dtype
            ),
            architecture=getattr(loaded.model.config, "model_type", ""),
            encoding=loaded.encoding,
        )

    async def load(self, on_progress: OnProgress) -> None:
        """Load on the loop's own thread, start the loop, encode the warm-up inputs."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, self._load, on_progress)
        self._start(loop)
        on_progress(LoadProgress("warm-up"))
        try:
            await self.warm(self._spec.warmup_prompts or DEFAULT_WARMUP, ())
        except ModelUnloaded:
            raise
        except LLMServeError as error:
            is_lost = self._loop is not None and self._loop.is_lost
            raise (DeviceLost if is_lost else ModelBroken)(
                f"model {self._spec.name!r} loaded but cannot encode: {error.message}"
            ) from error

    async def prepare(
        self, request: EncodingRequest, caller: Caller, deadline: float, hold: Hold
    ) -> EncodingTask:
        builder = self._builder
        if builder is None:
            raise unloaded(self._spec.name)
        builder.check(request)
        begun_at = awake_clock()
        try:
            async with awake_timeout(max(LEAST_SECONDS, deadline - begun_at)):
                return await self._prompts.run(
                    partial(builder.build, request, caller, deadline),
                    size=_size(request),
                    caller=caller.name,
                    priority=caller.priority,
                    on_end=hold(),
                    is_quick=len(request.inputs) <= QUICK_COUNT,
                )
        except TimeoutError:
            raise WaitTimeout(
                f"the inputs were not made into tokens within {awake_clock() - begun_at:.1f} s, "
                "when this request's time was over; send less, or try again later"
            ) from None

    async def read(
        self, work: Callable[[Tokenizer], T], *, size: int, caller: Caller, hold: Hold
    ) -> T:
        return await self._prompts.run(
            partial(work, self._model.tokenizer),
            size=size,
            caller=caller.name,
            priority=caller.priority,
            on_end=hold(),
        )

    def fail_preparing(self, error: LLMServeError) -> int:
        return self._prompts.fail(error)

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        """One after another, in batches shared with what runs."""
        seconds = []
        for prompt in prompts:
            begun = awake_clock()
            await self._encode(prompt)
            seconds.append(awake_clock() - begun)
        return WarmReport.of(seconds, ((0, NO_PREFIXES) for _ in prefixes))

    def start(self, job: EncodingJob) -> None:
        """Hand the job to the batch loop."""
        if self._loop is None or self._is_closing:
            raise RuntimeError("the engine is closed")
        on_done = job.on_done

        def done() -> None:
            self._running.discard(job)
            on_done()

        # Before it is handed over: the thread may be done with it at once.
        job.on_done = done
        self._running.add(job)
        self._loop.submit(job)
        if self._thread is not None and self._thread.done():
            self._loop.refuse_rest()

    def stats(self) -> EngineStats:
        """The engine at its last batch."""
        preparing = self._prompts.seconds_running
        if self._loop is None:
            return EngineStats(seconds_preparing=preparing)
        busy_since = self._loop.busy_since
        age = awake_clock() - busy_since if busy_since is not None else None
        return EngineStats(
            running=len(self._running),
            seconds_since_step=float("inf") if self._loop.is_lost else age,
            seconds_preparing=preparing,
            waiting=sum(job.started_at is None for job in self._running),
        )

    async def close(self) -> None:
        """End what runs, loading included, wait for the thread, drop the model."""
        self._is_closing = True
        self._prompts.close(unloaded(self._spec.name))
        if self._loop is not None:
            self._loop.close()
        if self._thread is not None:
            await asyncio.wait([self._thread])
        # On the thread that has used the device: another one would begin to use its own.
        with contextlib.suppress(RuntimeError):  # closed twice
            await asyncio.get_running_loop().run_in_executor(self._pool, self._let_go)
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._helpers.shutdown)

    @property
    def _layout(self) -> str:
        is_packed = self._computation is not None and self._computation.is_packed
        return "without padding" if is_packed else "in groups of similar lengths"

    @property
    def _model(self) -> LoadedEncoder:
        assert self._loaded is not None, "the engine is not loaded"
        return self._loaded

    def _let_go(self) -> None:
        self._loaded = self._builder = self._computation = self._loop = self._thread = None
        release_memory()

    def _load(self, on_progress: OnProgress) -> None:
        report = interruptible(on_progress, lambda: self._is_closing, self._spec.name)
        loaded = load_encoder(self._spec, self._options.fetch(self._spec, report), report)
        report(LoadProgress("preparing the engine"))
        make_current(loaded.device)
        is_on_gpu = loaded.device.type == "cuda"
        most = self._options.max_tokens_per_step or (
            GPU_BATCH_TOKENS if is_on_gpu else CPU_BATCH_TOKENS
        )
        # Measured on a CPU, where padding costs what tokens cost and a launch nothing.
        packs = not is_on_gpu and EncodingPurpose.EMBEDDING in loaded.encoding.purposes
        packing = packing_for(loaded) if packs else None
        computation = (
            EncoderComputation(loaded)
            if is_on_gpu
            else EncoderComputation(loaded, packing, self._set_threads)
        )
        self._budget, self._step_bytes = (
            fitting(loaded, computation, most) if is_on_gpu else (most, 0)
        )
        self._builder = EncodingTaskBuilder(self._spec.name, loaded)
        # Kept here: whoever waits for this thread may be gone, and `close` lets go of it.
        self._loaded, self._computation = loaded, computation

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        loaded, computation, options = self._loaded, self._computation, self._options
        if loaded is None or computation is None or self._is_closing:
            raise unloaded(self._spec.name)
        num_helpers = 0 if loaded.device.type == "cuda" else self._num_helpers
        answers = Answers(self._spec.name, loaded.encoding.labels, loaded.takes_several)
        self._loop = EncodingLoop(
            computation,
            answers.of,
            Wakes(loop),
            budget=self._budget,
            clock=awake_clock,
            on_batch=partial(options.on_batch, self._spec.name),
            num_threads=1 + num_helpers,
        )
        logger.info("model {} is served by the encoding engine ({}), {} at once, {} CPU threads",
                    self._spec.name, self._why, self._capacity, self._num_threads)  # fmt: skip
        helping = partial(self._loop.run, leads=False)
        self._thread = asyncio.gather(
            loop.run_in_executor(self._pool, self._loop.run),
            *(loop.run_in_executor(self._helpers, helping) for _ in range(num_helpers)),
        )
        watch(self._thread, "encoding loop", self._loop.refuse_rest)

    def _set_threads(self, is_alone: bool) -> None:
        """OpenMP's team size is a setting of each thread that starts a parallel region."""
        num_all = self._num_threads
        wanted = num_all if is_alone else max(1, num_all // (1 + self._num_helpers))
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    async def _encode(self, text: str) -> EncodingAnswer:
        """Of a text that nobody asked for; it is cut where it is too long.

        Raises:
            LLMServeError: it cannot be encoded.
        """
        purpose = self.purposes[0]
        request = EncodingRequest(
            id="warm-up",
            inputs=(TextPair(text, text) if purpose is EncodingPurpose.SCORE else text,),
            purpose=purpose,
            truncation=Truncation.KEEP_START,
        )
        task = await self.prepare(request, Caller("warm-up"), float("inf"), lambda: lambda: None)
        outcome: asyncio.Future[EncodingOutcome] = asyncio.get_running_loop().create_future()
        job = EncodingJob(
            replace(task, deadline=None), on_end=partial(_set, outcome), on_done=lambda: None
        )
        try:
            self.start(job)
            answer = await outcome
        except RuntimeError:
            raise unloaded(self._spec.name) from None
        finally:
            job.cancel()
        if isinstance(answer, LLMServeError):
            raise answer
        return answer


def _set(outcome: asyncio.Future[EncodingOutcome], value: EncodingOutcome) -> None:
    if not outcome.done():
        outcome.set_result(value)


def _size(request: EncodingRequest) -> int:
    """Characters, or tokens."""
    return sum(
        len(each.query) + len(each.document) if isinstance(each, TextPair) else len(each)
        for each in request.inputs
    )
