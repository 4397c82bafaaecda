"""BatchingEngine: one step loop on one thread makes the tokens of all requests of a model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import torch
from loguru import logger

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    EngineInfo,
    EngineKind,
    EngineStats,
    GenerationRequest,
    LoadProgress,
    ModelSpec,
    Prompt,
    WarmReport,
)
from llmserve.engines.accelerator import as_device_loss, make_current
from llmserve.engines.adapters.adapter_set import AdapterSet
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.kernel_options import KernelOptions
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.scoring import most_scored
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.batching.loop import StepLoop
from llmserve.engines.batching.loop_adapters import LoopAdapters
from llmserve.engines.batching.pacer import LEAST_TOKENS, LEAST_TOKENS_ON_GPU, Pacer
from llmserve.engines.batching.schedule.recurrent_states import LEAST_BLOCKS
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.stream import Stream
from llmserve.engines.batching.warming import Warming
from llmserve.engines.bridge import TokenBridge
from llmserve.engines.constraints.compiler import ConstraintCompiler
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.engines.engine import Generator, Hold
from llmserve.engines.failure import release_memory
from llmserve.engines.job import Job
from llmserve.engines.loop_thread import watch
from llmserve.engines.memory_share import MemoryShare
from llmserve.engines.options import EngineOptions
from llmserve.engines.preparation import PreparationPool, older
from llmserve.engines.private_job import unloaded
from llmserve.engines.progress import OnProgress, interruptible
from llmserve.engines.task import TokenTask
from llmserve.engines.task_builder import TaskBuilder
from llmserve.engines.wakes import Wakes
from llmserve.engines.warmup import warm_up
from llmserve.engines.weights.devices import num_gpus
from llmserve.engines.weights.loading import LoadedModel
from llmserve.errors import LLMServeError
from llmserve.text.spelling import Spelling
from llmserve.text.tokenizer import Tokenizer

GPU_TOKENS_PER_STEP: Final = 4096
CPU_TOKENS_PER_STEP: Final = 512

T = TypeVar("T")


class BatchingEngine(Generator):
    """The step loop's thread owns the model, the cache and the scheduler; the event loop talks to
    it through `StepLoop`."""

    def __init__(
        self,
        spec: ModelSpec,
        loaded: LoadedModel,
        shape: CacheShape,
        options: EngineOptions,
        *,
        why: str,
    ) -> None:
        self._spec = spec
        self._loaded: LoadedModel | None = loaded
        self._vocab = loaded.vocab  # now: native kernels take the weights, and the head's rows
        self._shape = shape
        self._options = options
        self._max_running = options.slots(EngineKind.BATCHING, loaded.device.type)
        self._num_threads = options.threads()
        self._why = why
        self._prompts = PreparationPool(spec.name)
        vocabulary = Vocabulary(loaded.tokenizer, self._vocab, loaded.eos_ids)
        self._compiler = ConstraintCompiler(spec.name, vocabulary)
        self._computation: ModelComputation | None = None
        self._info: EngineInfo | None = None
        self._builder: TaskBuilder | None = None
        self._loop: StepLoop[Batch, RowState] | None = None
        self._scheduler: Scheduler | None = None
        self.adapter_set: AdapterSet = options.adapter_set(spec)
        self._running: set[Job] = set()
        self._num_background = 0
        self._is_closing = False
        self._device: torch.device = loaded.device
        self._pool = ThreadPoolExecutor(1, f"generate-{spec.name}", self._begin_thread)
        self._thread: asyncio.Future[None] | None = None

    @property
    def capacity(self) -> int:
        """Requests in a step."""
        return self._max_running

    @property
    def can_pause(self) -> bool:
        """The scheduler plans background work around the rest."""
        return True

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._model.tokenizer

    @property
    def spelling(self) -> Callable[[int], Spelling]:
        return self.tokenizer.spelling

    @property
    def decode(self) -> Callable[[Sequence[int]], str]:
        return self.tokenizer.decode

    @property
    def info(self) -> EngineInfo:
        """What was loaded."""
        info = self._info or self._loaded_info()
        if info.adapter_bytes != self.adapter_set.num_bytes:
            info = replace(info, adapter_bytes=self.adapter_set.num_bytes)
        self._info = info
        return info

    def _loaded_info(self) -> EngineInfo:
        loaded, computation = self._model, self._computation
        assert computation is not None, "the engine is not loaded"
        return replace(
            loaded.info(EngineKind.BATCHING, f"{self._why}; {computation.description}"),
            max_context=min(loaded.max_context, computation.cache.num_tokens),
            cache_bytes=computation.cache.num_bytes,
            state_bytes=computation.state_bytes,
            num_states=computation.num_states or 0,
            step_bytes=computation.step_bytes,
        )

    async def load(self, on_progress: OnProgress) -> None:
        """Make the cache and whatever is compiled, start the step loop, generate first tokens."""
        loop = asyncio.get_running_loop()
        share = self._options.share_for(self._spec, str(self._device), num_gpus())
        await loop.run_in_executor(self._pool, self._build, share, on_progress)
        self._start(loop)
        on_progress(LoadProgress("warm-up"))
        await warm_up(self, self._spec, lambda: self._loop is not None and self._loop.is_lost)

    async def prepare(
        self, requests: Sequence[GenerationRequest], caller: Caller, deadline: float, hold: Hold
    ) -> Sequence[TokenTask]:
        self.adapter_set.check(requests)
        assert self._builder is not None, "the engine is not loaded"
        return await self._builder.build(requests, caller, deadline, hold)

    async def read(
        self, work: Callable[[Tokenizer], T], *, size: int, caller: Caller, hold: Hold
    ) -> T:
        return await self._prompts.run(
            partial(work, self.tokenizer),
            size=size,
            caller=caller.name,
            priority=caller.priority,
            on_end=hold(),
        )

    def fail_preparing(self, error: LLMServeError) -> int:
        return self._prompts.fail(error) + self._compiler.fail(error)

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        """One after another, in steps shared with what runs."""
        context = self.info.max_context
        assert context is not None
        least = None
        if self._options.prefix_caching:
            least = self._options.block_size * (LEAST_BLOCKS if self.info.num_states else 1)
        warming = Warming(self._model, self._spec.name, context, least, self._submit, self._call)
        return await warming.run(prompts, prefixes)

    def start(self, job: Job) -> None:
        """Hand the job to the step loop."""
        is_background = job.task.is_background
        num_others = len(self._running) - self._num_background
        assert is_background or num_others < self.capacity, "admission let too many in"
        on_done = job.on_done
        if not self.adapter_set.begin(job):
            return

        def forget() -> None:
            self.adapter_set.end(job)
            self._running.discard(job)
            self._num_background -= is_background

        def done() -> None:
            forget()
            on_done()

        # Before it is handed over: the thread may be done with it at once.
        job.on_done = done
        self._running.add(job)
        self._num_background += is_background
        try:
            self._submit(job)
        except RuntimeError:
            forget()
            job.on_done = on_done
            raise

    def stats(self) -> EngineStats:
        """The engine after its last step."""
        if self._loop is None:
            return EngineStats(seconds_preparing=self._seconds_preparing)
        loop, scheduled = self._loop, self._loop.stats
        busy_since = loop.busy_since
        age = awake_clock() - busy_since if busy_since is not None else None
        return EngineStats(
            running=len(self._running),
            seconds_since_step=float("inf") if loop.is_lost else age,
            seconds_preparing=self._seconds_preparing,
            cache_usage=scheduled.blocks_used / scheduled.blocks_total,
            waiting=scheduled.foreground_waiting,
            blocks_used=scheduled.blocks_used,
            blocks_total=scheduled.blocks_total,
            preemptions=scheduled.preemptions,
            states_used=scheduled.states.used,
            states_total=scheduled.states.total,
            checkpoints=scheduled.states.checkpoints,
            checkpoint_hits=scheduled.states.hits,
        )

    @property
    def _seconds_preparing(self) -> float | None:
        return older(self._prompts.seconds_running, self._compiler.seconds_running)

    async def close(self) -> None:
        """Cancel what runs, wait for the thread, drop the model."""
        self._is_closing = True
        self.adapter_set.close()
        self._prompts.close(unloaded(self._spec.name))
        self._compiler.close(unloaded(self._spec.name))
        if self._loop is not None:
            self._loop.close()
        if self._thread is not None:
            await asyncio.wait([self._thread])
        # On the thread that has used the device: another one would begin to use its own.
        with contextlib.suppress(RuntimeError):  # closed twice
            await asyncio.get_running_loop().run_in_executor(self._pool, self._let_go)
        await asyncio.to_thread(self._pool.shutdown)

    def _let_go(self) -> None:
        """Drop the model and all that knows it: engine and loop know each other."""
        if self._computation is not None:
            self._computation.close()
        self._computation = self._scheduler = self._loaded = self._loop = self._thread = None
        self._info = self._builder = self.adapter_host = None
        release_memory()

    @property
    def _model(self) -> LoadedModel:
        assert self._loaded is not None, "the engine is closed"
        return self._loaded

    def _begin_thread(self) -> None:
        # OpenMP's team size is a setting of each thread that starts a parallel region.
        torch.set_num_threads(self._num_threads)
        make_current(self._device)

    def _build(self, share: MemoryShare, on_progress: OnProgress) -> None:
        report = interruptible(on_progress, lambda: self._is_closing, self._spec.name)
        options = self._options
        most = options.max_tokens_per_step or (
            GPU_TOKENS_PER_STEP if self._is_on_gpu else CPU_TOKENS_PER_STEP
        )
        with as_device_loss(self._device):
            computation = build_computation(
                self._model,
                self._shape,
                CacheOptions(
                    options.block_size,
                    self._max_running,
                    options.kv_cache_bytes,
                    share,
                    options.prefix_caching,
                ),
                tokens_per_step=max(most, self._max_running),
                is_compiled=options.torch_compile,
                kernels=KernelOptions(options.cpu_instructions, options.cache_dir),
                on_progress=report,
            )
        logger.info("model {}: KV cache: {}", self._spec.name, computation.arithmetic)
        logger.info("model {}: {}", self._spec.name, computation.description)
        # Kept here: whoever waits for this thread may be gone, and `close` lets go of it.
        self._computation = computation
        asked, self._max_running = self._max_running, computation.most_running(self._max_running)
        if self._max_running < asked:
            logger.warning("model {}: {} requests run at once, not {}: no memory for more states",
                           self._spec.name, self._max_running, asked)  # fmt: skip

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        computation = self._computation
        if computation is None or self._is_closing:
            raise unloaded(self._spec.name)
        options, most = self._options, computation.tokens_per_step
        self._scheduler = Scheduler(
            num_blocks=computation.cache.num_blocks,
            block_size=options.block_size,
            max_tokens_per_step=most,
            max_sequences=self._max_running,
            max_scored_per_step=min(most, most_scored(self._vocab, self._is_on_gpu)),
            num_states=computation.num_states,
            is_caching=options.prefix_caching,
        )
        self._builder = TaskBuilder(
            self._spec,
            self.tokenizer,
            self.info,
            self._prompts,
            awake_clock,
            self._compiler,
            self._model.reader,
        )
        wakes = Wakes(loop)
        self._loop = StepLoop(
            self._scheduler,
            computation,
            partial(self._admit, wakes=wakes),
            wakes,
            pacer=Pacer(
                most,
                LEAST_TOKENS_ON_GPU if self._is_on_gpu else LEAST_TOKENS,
                computation.replayed_tokens,
            ),
            clock=awake_clock,
            on_step=partial(options.on_step, self._spec.name),
        )
        self.adapter_host = LoopAdapters(
            self._model.model,
            computation.adapters,
            lambda work: self._call(lambda scheduler: work()),
        )
        self._thread = asyncio.ensure_future(loop.run_in_executor(self._pool, self._loop.run))
        watch(self._thread, "step loop", self._loop.refuse_rest)

    @property
    def _is_on_gpu(self) -> bool:
        return self._device.type == "cuda"

    def _admit(self, job: Job, wakes: Wakes) -> Stream[RowState]:
        """On the step loop's thread."""
        loaded, task = self._model, job.token_task
        rule = None if task.new_rule is None else task.new_rule()
        bridge = TokenBridge(job, loaded.tokenizer, loaded.eos_ids, awake_clock, wakes.add, rule)
        row = RowState(
            task.sampling,
            task.prompt_ids,
            loaded.eos_ids,
            self._vocab,
            loaded.device,
            rule,
        )
        return Stream(job, bridge, row)

    @property
    def _open_loop(self) -> StepLoop[Batch, RowState] | None:
        """The step loop, if it takes work. What comes while its thread ends is refused by it."""
        is_over = self._is_closing or self._thread is None or self._thread.done()
        return None if is_over else self._loop

    def _submit(self, job: Job) -> None:
        loop = self._open_loop
        if loop is None:
            raise RuntimeError("the engine is closed")
        job.last_step_at = awake_clock()
        loop.submit(job)

    async def _call(self, function: Callable[[Scheduler], T]) -> T:
        loop, scheduler = self._open_loop, self._scheduler
        if loop is None or scheduler is None:
            raise unloaded(self._spec.name)
        future: Future[T] = loop.call(lambda: function(scheduler))
        return await asyncio.wrap_future(future)
