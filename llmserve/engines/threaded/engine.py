"""ThreadedEngine: one blocking `model.generate` per pool thread.

Runs every causal language model that transformers runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    EngineInfo,
    EngineKind,
    EngineStats,
    Failed,
    GenerationRequest,
    LoadProgress,
    ModelSpec,
    Prompt,
    WarmReport,
)
from llmserve.engines.accelerator import answers, make_current
from llmserve.engines.adapters.adapter_set import AdapterSet
from llmserve.engines.bridge import StopStringMatched, TokenBridge
from llmserve.engines.constraints.compiler import ConstraintCompiler
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.engines.engine import Generator, Hold
from llmserve.engines.failure import as_failure, no_numbers, release_memory
from llmserve.engines.frames import forget_frames
from llmserve.engines.job import Job
from llmserve.engines.options import EngineOptions
from llmserve.engines.prefix import beginning
from llmserve.engines.preparation import PreparationPool, older
from llmserve.engines.private_job import private_job, unloaded
from llmserve.engines.progress import OnProgress, interruptible
from llmserve.engines.step_report import StepReport
from llmserve.engines.task import TokenTask
from llmserve.engines.task_builder import TaskBuilder
from llmserve.engines.threaded.adapters import ThreadAdapters
from llmserve.engines.threaded.end_of_step import EndOfStep
from llmserve.engines.threaded.logits_processors import build_processors
from llmserve.engines.threaded.logprobs import LogprobsTap
from llmserve.engines.threaded.own_positions import own_positions
from llmserve.engines.threaded.pinned_prefixes import Pinned, PinnedPrefixes, PrefixRefused, pin
from llmserve.engines.threaded.prompt_logprobs import LOGIT_BYTES, prompt_scores
from llmserve.engines.token_rule import AnswerRule
from llmserve.engines.warmup import warm_up, warm_up_task
from llmserve.engines.weights.loading import LoadedModel, load_model
from llmserve.errors import GenerationFailed, LLMServeError, OutOfMemory
from llmserve.observability.context import request_id
from llmserve.text.spelling import Spelling
from llmserve.text.tokenizer import Tokenizer

T = TypeVar("T")


class ThreadedEngine(Generator):
    """At most `max_running` generations at once, each on its own thread of a bounded pool.

    The event loop owns `_running` and `_warming`; a worker thread touches only its own job.
    One thread more warms and pins, so that an operator takes no request's place. A model that is
    `loaded` already is not loaded again.
    """

    def __init__(
        self,
        spec: ModelSpec,
        options: EngineOptions,
        *,
        why: str,
        loaded: LoadedModel | None = None,
    ) -> None:
        self._spec = spec
        self._why = why
        self._max_running = options.slots(EngineKind.THREADED)
        self._fetch = options.fetch
        self._on_step = partial(options.on_step, spec.name)
        self._loaded = loaded
        self._info: EngineInfo | None = None
        self._builder: TaskBuilder | None = None
        self.adapter_set: AdapterSet = options.adapter_set(spec)
        self._running: set[Job] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closing = False
        self._is_lost = False
        # OpenMP's team size is a setting of each thread that starts a parallel region.
        num_threads = options.threads(num_computing=self._max_running)
        set_threads = partial(torch.set_num_threads, num_threads)
        self._pool = ThreadPoolExecutor(self._max_running, f"generate-{spec.name}", set_threads)
        self._warmer = ThreadPoolExecutor(1, f"generate-warm-{spec.name}", set_threads)
        self._warming: set[Job] = set()
        self._prefixes = PinnedPrefixes()
        self._prompts = PreparationPool(spec.name)
        self._compiler: ConstraintCompiler | None = None
        self._adapters: ThreadAdapters | None = None

    @property
    def capacity(self) -> int:
        """Threads in the pool."""
        return self._max_running

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
        info = self._info or self._model.info(EngineKind.THREADED, self._why)
        if info.adapter_bytes != self.adapter_set.num_bytes:
            info = replace(info, adapter_bytes=self.adapter_set.num_bytes)
        self._info = info
        return info

    async def load(self, on_progress: OnProgress) -> None:
        """Load on a pool thread, then generate a few tokens from the warm-up prompts."""
        loop = asyncio.get_running_loop()
        if self._loaded is None:
            self._loaded = await loop.run_in_executor(self._pool, self._load, on_progress)
        own_positions(self._model.model)
        vocabulary = Vocabulary(self.tokenizer, self._model.vocab, self._model.eos_ids)
        self._compiler = ConstraintCompiler(self._spec.name, vocabulary)
        self._builder = TaskBuilder(
            self._spec,
            self.tokenizer,
            self.info,
            self._prompts,
            awake_clock,
            self._compiler,
            self._model.reader,
        )
        self.adapter_host = self._adapters = ThreadAdapters(self._model.model)
        on_progress(LoadProgress("warm-up"))
        await warm_up(self, self._spec, lambda: self._is_lost)

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
        compiling = 0 if self._compiler is None else self._compiler.fail(error)
        return self._prompts.fail(error) + compiling

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        """One after another, on the warmer's thread."""
        seconds = []
        for prompt in prompts:
            begun = awake_clock()
            await self._warm_up(prompt)
            seconds.append(awake_clock() - begun)
        pins = [await self._on_warmer(self._pin, prefix) for prefix in prefixes]
        return WarmReport.of(seconds, (self._outcome(*pin) for pin in pins))

    def start(self, job: Job) -> None:
        """Queue the job on the pool, which has a thread for it."""
        assert len(self._running) < self._max_running, "admission let too many in"
        if not self.adapter_set.begin(job):
            return
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, self._run, job)
        except RuntimeError:
            self.adapter_set.end(job)
            raise
        self._running.add(job)
        self._idle.clear()
        future.add_done_callback(partial(self._done, job))

    def stats(self) -> EngineStats:
        """How many jobs run, and how long the quietest of them has been silent."""
        now = awake_clock()
        steps = [job.last_step_at for job in self._running if job.last_step_at is not None]
        age = now - min(steps) if steps else None
        tokens = sum(job.usage.total_tokens for job in self._running)
        compiling = None if self._compiler is None else self._compiler.seconds_running
        room = self._max_running * self._loaded.max_context if self._loaded is not None else 1
        return EngineStats(
            running=len(self._running),
            seconds_since_step=float("inf") if self._is_lost else age,
            seconds_preparing=older(self._prompts.seconds_running, compiling),
            cache_usage=min(1.0, tokens / room),
            pinned_bytes=self._prefixes.num_bytes,
        )

    async def close(self) -> None:
        """Cancel what runs, loading included, wait for the threads, drop the model."""
        self._is_closing = True
        self.adapter_set.close()
        self._prompts.close(unloaded(self._spec.name))
        if self._compiler is not None:
            self._compiler.close(unloaded(self._spec.name))
        for job in (*self._running, *self._warming):
            job.cancel()
        await self._idle.wait()
        await asyncio.to_thread(self._pool.shutdown)
        # On a thread that uses the device: another one would begin to use its own.
        with contextlib.suppress(RuntimeError):  # closed twice
            await asyncio.get_running_loop().run_in_executor(self._warmer, self._let_go)
        await asyncio.to_thread(self._warmer.shutdown)

    def _let_go(self) -> None:
        if self._loaded is not None:
            make_current(self._loaded.device)
        self._prefixes.clear()
        self._loaded = self._info = self._builder = self._adapters = self.adapter_host = None
        release_memory()

    @property
    def _model(self) -> LoadedModel:
        assert self._loaded is not None, "the engine is not loaded"
        return self._loaded

    def _load(self, on_progress: OnProgress) -> LoadedModel:
        report = interruptible(on_progress, lambda: self._is_closing, self._spec.name)
        return load_model(self._spec, self._fetch(self._spec, report), report)

    async def _on_warmer(self, work: Callable[..., T], *arguments: Any) -> T:
        if self._is_closing:
            raise unloaded(self._spec.name)
        return await asyncio.get_running_loop().run_in_executor(self._warmer, work, *arguments)

    async def _warm_up(self, prompt: str) -> None:
        task = await self._on_warmer(lambda: warm_up_task(self._model, prompt))
        with private_job(task, self._spec.name) as job:
            self._warming.add(job)
            try:
                await self._on_warmer(self._run, job)
            finally:
                self._warming.discard(job)

    def _outcome(self, token_ids: tuple[int, ...], problem: str | None) -> tuple[int, str | None]:
        if problem is None and token_ids not in self._prefixes:
            problem = f"it made room for later ones: {self._prefixes.bounds}"
        return (len(token_ids), None) if problem is None else (0, problem)

    def _done(self, job: Job, future: asyncio.Future[None]) -> None:
        self._running.discard(job)
        self.adapter_set.end(job)
        if not self._running:
            self._idle.set()
        job.on_done()
        future.result()  # `_run` never raises; if it does, the loop's handler must hear of it

    def _run(self, job: Job) -> None:
        """The worker thread's whole life with a job; never raises."""
        request_id.set(job.task.request_id)
        try:
            task = job.token_task
            rule = None if task.new_rule is None else task.new_rule()
            bridge = TokenBridge(job, self.tokenizer, self._model.eos_ids, awake_clock, rule=rule)
            prefix = None
            if task.adapter is None:  # prefixes are computed without any
                prefix = self._prefixes.longest_match(task.prompt_ids)
            job.cached_tokens = len(prefix.token_ids) if prefix is not None else 0
            bridge.start()
            if job.is_cancelled:
                bridge.end()
            else:
                assert self._adapters is not None, "the engine is not loaded"
                with self._adapters.active(job.adapter_id):
                    self._generate(job, bridge, prefix, rule)
        except StopStringMatched:
            pass
        # The worker's boundary: whatever a model raises ends this request and no other.
        except Exception as error:
            failure = as_failure(error)
            forget_frames(error)
            job.mailbox.post(Failed(failure, job.usage))
            release_memory()
            self._is_lost = self._is_lost or not answers(self._model.device)

    @torch.inference_mode()
    def _generate(
        self, job: Job, bridge: TokenBridge, prefix: Pinned | None, rule: AnswerRule | None
    ) -> None:
        model, task = self._model, job.token_task
        make_current(model.device)
        # input_ids, (1, prompt_tokens)
        input_ids = torch.tensor([task.prompt_ids], dtype=torch.long, device=model.device)
        if task.sampling.prompt_logprobs is not None:
            self._score(job, bridge, input_ids, task.sampling.prompt_logprobs)
        if job.is_cancelled or not task.max_tokens:
            bridge.end()
            return
        processors = build_processors(
            task.sampling, len(task.prompt_ids), model.eos_ids, model.device, rule
        )
        prefill_tokens = len(task.prompt_ids) - job.cached_tokens
        end_of_step = EndOfStep(bridge, prefill_tokens, self._on_step, rule)
        streamer: BaseStreamer = bridge
        if task.sampling.logprobs is not None:
            tap = LogprobsTap(bridge, task.sampling.logprobs)
            processors.insert(0, tap)
            streamer = tap
        model.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=task.max_tokens,
                pad_token_id=model.pad_id,
                use_cache=True,
            ),
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([end_of_step]),
            streamer=streamer,
            **({} if prefix is None else {"past_key_values": prefix.copy_cache()}),
        )

    def _score(self, job: Job, bridge: TokenBridge, input_ids: torch.Tensor, num_top: int) -> None:
        model, begun = self._model, awake_clock()
        most = max(1, LOGIT_BYTES // (4 * model.vocab))
        for scores in prompt_scores(model.model, input_ids, num_top, most):
            if not scores.are_numbers:
                raise no_numbers()
            bridge.tell(scores)
            self._on_step(StepReport(awake_clock() - begun, len(scores), sampled=0))
            begun = awake_clock()
            if job.is_cancelled:
                return

    def _pin(self, prefix: Prompt) -> tuple[tuple[int, ...], str | None]:
        """Keep a prefix's cache; its tokens, and why it is not kept. On the warmer's thread.

        Raises:
            OutOfMemory: there is no room for the cache.
        """
        token_ids: tuple[int, ...] = ()
        make_current(self._model.device)
        try:
            token_ids = beginning(prefix, self.tokenizer)
            if not self._prefixes.renew(token_ids):
                self._prefixes.add(pin(self._model, token_ids))
        except PrefixRefused as refused:
            return token_ids, str(refused)
        # The worker's boundary: a model whose cache cannot be kept serves without it.
        except Exception as error:
            failure = as_failure(error)
            forget_frames(error)
            release_memory()
            if isinstance(failure, OutOfMemory):
                raise OutOfMemory(
                    f"the device ran out of memory while a prefix of {len(token_ids):,} tokens "
                    "was pinned; shorten it or pin fewer"
                ) from None
            if isinstance(failure, GenerationFailed):
                name = type(error).__name__
                return token_ids, f"this model cannot go on from a kept cache ({name}); see the log"
            return token_ids, failure.message
        return token_ids, None
