"""An encoder without threads or weights, moved by the test that owns it."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from functools import partial

from fake_engine import LetterTokenizer

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    EncodingAnswer,
    EncodingInfo,
    EncodingPurpose,
    EncodingRequest,
    EngineInfo,
    EngineKind,
    EngineStats,
    LoadProgress,
    Prompt,
    WarmReport,
)
from llmserve.engines.encoder import Encoder
from llmserve.engines.encoding_job import EncodingJob
from llmserve.engines.encoding_task import EncodingTask, TokenInput
from llmserve.engines.engine import Hold
from llmserve.engines.preparation import PreparationPool
from llmserve.errors import InvalidRequest, LLMServeError, ModelUnloaded


class FakeEncoder(Encoder):
    """Jobs wait in `running` until the test says what becomes of them. A text has a token for each
    letter, and its embedding is how many they are, twice."""

    def __init__(
        self,
        capacity: int = 1,
        purposes: tuple[EncodingPurpose, ...] = (EncodingPurpose.EMBEDDING,),
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        self._capacity = capacity
        self._purposes = purposes
        self._clock = clock
        self.running: list[EncodingJob] = []
        self.started: list[EncodingJob] = []
        self.requests: list[EncodingRequest] = []
        self.is_closed = False
        self.answers_at_once = False
        self.tokenizer = LetterTokenizer()
        self.prompts = PreparationPool("fake-encoder", clock)

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def purposes(self) -> tuple[EncodingPurpose, ...]:
        return self._purposes

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            kind=EngineKind.ENCODING,
            why="a test wants it",
            device="cpu",
            dtype="float32",
            max_context=20,
            parameters=1,
            weight_bytes=4,
            encoding=EncodingInfo(self._purposes, dimensions=2, is_normalized=False),
        )

    async def load(self, on_progress: Callable[[LoadProgress], None]) -> None:
        on_progress(LoadProgress("weights", 0.5))

    async def prepare(
        self, request: EncodingRequest, caller: Caller, deadline: float, hold: Hold
    ) -> EncodingTask:
        self.requests.append(request)
        if request.purpose not in self._purposes:
            raise InvalidRequest("the model is not for this", param="model")
        texts = [each if isinstance(each, str) else str(each) for each in request.inputs]
        lengths = await self.prompts.run(
            partial(self._lengths, texts),
            size=sum(map(len, texts)),
            caller=caller.name,
            on_end=hold(),
        )
        return EncodingTask(
            request_id=request.id,
            purpose=request.purpose,
            inputs=tuple(TokenInput(array("i", [1] * length)) for length in lengths),
            tokens=tuple(lengths),
            deadline=deadline,
            caller=caller.name,
            priority=caller.priority,
            is_background=caller.is_background,
        )

    async def read(self, work, *, size: int, caller: Caller, hold: Hold):  # type: ignore[no-untyped-def]
        return await self.prompts.run(
            partial(work, self.tokenizer), size=size, caller=caller.name, on_end=hold()
        )

    def fail_preparing(self, error: LLMServeError) -> int:
        return self.prompts.fail(error)

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        return WarmReport((0.0,) * len(prompts))

    def start(self, job: EncodingJob) -> None:
        assert len(self.running) < self._capacity
        job.started_at = job.last_step_at = time.monotonic()
        self.running.append(job)
        self.started.append(job)
        if self.answers_at_once:
            asyncio.get_running_loop().call_soon(self._finish_if_running, job)

    def finish(self, job: EncodingJob, error: LLMServeError | None = None) -> None:
        """Let go of a job, as a worker thread would at its end."""
        if error is not None:
            job.on_end(error)
        elif not job.is_cancelled:
            job.on_end(self._answer(job))
        self.running.remove(job)
        job.on_done()

    def finish_all(self) -> None:
        for job in list(self.running):
            self.finish(job)

    def stats(self) -> EngineStats:
        return EngineStats(len(self.running), None, self.prompts.seconds_running)

    async def close(self) -> None:
        self.is_closed = True
        self.prompts.close(ModelUnloaded("the model was unloaded"))

    def _finish_if_running(self, job: EncodingJob) -> None:
        if job in self.running:
            self.finish(job)

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(self.tokenizer.encode(text)) for text in texts]

    def _answer(self, job: EncodingJob) -> EncodingAnswer:
        width = 2 if job.task.purpose is EncodingPurpose.EMBEDDING else 1
        vectors = [memoryview(array("f", [float(n)] * width)) for n in job.task.tokens]
        return EncodingAnswer("fake", tuple(vectors), job.task.tokens)
