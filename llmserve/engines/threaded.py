"""ThreadedEngine: one blocking `model.generate` per pool thread.

Runs every causal language model that transformers runs.
"""

from __future__ import annotations

import asyncio
import gc
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from loguru import logger
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from llmserve.domain import (
    EngineInfo,
    EngineKind,
    EngineStats,
    Failed,
    LoadProgress,
    ModelSpec,
    SamplingParams,
    Usage,
)
from llmserve.engines.bridge import StopStringMatched, TokenBridge
from llmserve.engines.job import Job, Task
from llmserve.engines.loading import LoadedModel, load_model
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.sampling import build_processors
from llmserve.errors import GenerationFailed, LLMServeError, ModelBroken, OutOfMemory
from llmserve.observability.context import request_id
from llmserve.text.tokenizer import Tokenizer

WARMUP_TOKENS: Final = 8
DEFAULT_WARMUP: Final = ("Hello",)

Fetch = Callable[[ModelSpec, Callable[[LoadProgress], None]], Path]
"""Finds a model's folder, downloading it if need be; blocks."""


class ThreadedEngine:
    """At most `max_running` generations at once, each on its own thread of a bounded pool.

    The event loop owns `_running`; a worker thread touches only its own job.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        why: str,
        max_running: int,
        torch_threads: int,
        fetch: Fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._why = why
        self._max_running = max_running
        self._fetch = fetch
        self._clock = clock
        self._loaded: LoadedModel | None = None
        self._running: set[Job] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closing = False
        self._pool = ThreadPoolExecutor(
            max_workers=max_running,
            thread_name_prefix=f"generate-{spec.name}",
            # OpenMP's team size is a setting of each thread that starts a parallel region.
            initializer=partial(torch.set_num_threads, torch_threads),
        )

    @property
    def capacity(self) -> int:
        """Threads in the pool."""
        return self._max_running

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._model.tokenizer

    @property
    def info(self) -> EngineInfo:
        """What was loaded."""
        loaded = self._model
        return EngineInfo(
            kind=EngineKind.THREADED,
            why=self._why,
            device=loaded.placement,
            dtype=loaded.dtype,
            max_context=loaded.max_context,
            parameters=loaded.parameters,
            weight_bytes=loaded.weight_bytes,
            sampling=loaded.sampling,
        )

    async def load(self, on_progress: Callable[[LoadProgress], None]) -> None:
        """Load on a pool thread, then generate a few tokens from the warm-up prompts."""
        loop = asyncio.get_running_loop()
        self._loaded = await loop.run_in_executor(self._pool, self._load, on_progress)
        for prompt in self._spec.warmup_prompts or DEFAULT_WARMUP:
            on_progress(LoadProgress("warm-up"))
            await self._warm_up(prompt)

    def start(self, job: Job) -> None:
        """Queue the job on the pool, which has a thread for it."""
        assert len(self._running) < self._max_running, "admission let too many in"
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._run, job)
        self._running.add(job)
        self._idle.clear()
        future.add_done_callback(partial(self._done, job))

    def stats(self) -> EngineStats:
        """How many jobs run, and how long the quietest of them has been silent."""
        now = self._clock()
        steps = [job.last_step_at for job in self._running if job.last_step_at is not None]
        return EngineStats(len(self._running), now - min(steps) if steps else None)

    async def close(self) -> None:
        """Cancel what runs, loading included, wait for the threads, drop the model."""
        self._is_closing = True
        for job in self._running:
            job.cancel()
        await self._idle.wait()
        await asyncio.to_thread(self._pool.shutdown)
        self._loaded = None
        _release_memory()

    @property
    def _model(self) -> LoadedModel:
        assert self._loaded is not None, "the engine is not loaded"
        return self._loaded

    def _load(self, on_progress: Callable[[LoadProgress], None]) -> LoadedModel:
        def report(progress: LoadProgress) -> None:
            if self._is_closing:
                raise ModelBroken(f"loading {self._spec.name!r} was interrupted by a shutdown")
            on_progress(progress)

        folder = self._fetch(self._spec, report)
        return load_model(self._spec, folder, report)

    async def _warm_up(self, prompt: str) -> None:
        ids = await asyncio.to_thread(self.tokenizer.encode, prompt)
        room = max(1, self._model.max_context - WARMUP_TOKENS)
        task = Task(
            request_id="warm-up",
            prompt_ids=tuple(ids[:room]) or (self._model.pad_id,),
            sampling=SamplingParams(temperature=0.0, ignore_eos=True),
            max_tokens=WARMUP_TOKENS,
        )
        mailbox = Mailbox(asyncio.get_running_loop())
        self.start(Job(task, mailbox, on_done=lambda: None))
        await self._idle.wait()
        if isinstance(mailbox.terminal, Failed):
            raise ModelBroken(
                f"model {self._spec.name!r} loaded but cannot generate: "
                f"{mailbox.terminal.error.message}"
            )

    def _done(self, job: Job, future: asyncio.Future[None]) -> None:
        self._running.discard(job)
        if not self._running:
            self._idle.set()
        job.on_done()
        future.result()  # `_run` never raises; if it does, the loop's handler must hear of it

    def _run(self, job: Job) -> None:
        """The worker thread's whole life with a job; never raises."""
        request_id.set(job.task.request_id)
        try:
            bridge = TokenBridge(job, self.tokenizer, self._model.eos_ids, self._clock)
            bridge.start()
            if job.is_cancelled:
                bridge.end()
            else:
                self._generate(job, bridge)
        except StopStringMatched:
            pass
        # The worker's boundary: whatever a model raises ends this request and no other.
        except Exception as error:
            failure = _as_failure(error)
            _forget_frames(error)
            usage = Usage(len(job.task.prompt_ids), job.completion_tokens)
            job.mailbox.post(Failed(failure, usage))
            _release_memory()

    @torch.inference_mode()
    def _generate(self, job: Job, bridge: TokenBridge) -> None:
        model, task = self._model, job.task
        # input_ids, (1, prompt_tokens)
        input_ids = torch.tensor([task.prompt_ids], dtype=torch.long, device=model.device)
        model.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=task.max_tokens,
                pad_token_id=model.pad_id,
                use_cache=True,
            ),
            logits_processor=build_processors(
                task.sampling, len(task.prompt_ids), model.eos_ids, model.device
            ),
            stopping_criteria=StoppingCriteriaList([_EndOfJob(bridge)]),
            streamer=bridge,
        )


class _EndOfJob(StoppingCriteria):
    """Stops `generate` at the end of the answer, at a cancel and at the deadline."""

    def __init__(self, bridge: TokenBridge) -> None:
        self._bridge = bridge

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        is_over = self._bridge.is_over(int(input_ids[0, -1]))
        return torch.full((input_ids.shape[0],), is_over, device=input_ids.device)


def _as_failure(error: Exception) -> LLMServeError:
    if isinstance(error, LLMServeError):
        return error
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        logger.error("out of memory in generate: {}", error)
        return OutOfMemory(
            "the device ran out of memory during this request; shorten the prompt or try later",
            retry_after_seconds=5.0,
        )
    logger.exception("generate raised")
    return GenerationFailed(f"the model failed while generating ({type(error).__name__})")


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: the cache and the activations."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
