"""An engine without threads or weights, moved by the test that owns it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from llmserve.clock import awake_clock
from llmserve.domain import (
    AdapterInfo,
    AdapterSpec,
    Caller,
    Cancelled,
    Conversation,
    Delta,
    EngineInfo,
    EngineKind,
    EngineStats,
    Failed,
    Finish,
    FinishReason,
    GenerationRequest,
    LoadProgress,
    ModelSpec,
    Prompt,
    Started,
    TokenLogprobs,
    Usage,
    WarmReport,
)
from llmserve.engines.engine import Generator, Hold
from llmserve.engines.job import Job
from llmserve.engines.preparation import PreparationPool
from llmserve.engines.task import TokenTask
from llmserve.engines.task_builder import TaskBuilder
from llmserve.errors import InvalidRequest, LLMServeError, ModelUnloaded
from llmserve.text.encoded import Encoded
from llmserve.text.spelling import Spelling


class LetterTokenizer:
    """One token per letter of a text; token ids as they are."""

    is_quick = False

    vocab_size = 128
    template_source = ""
    warnings: tuple[str, ...] = ()

    def encode(
        self, prompt: Prompt, max_tokens: int | None = None, *, add_special_tokens: bool = True
    ) -> list[int]:
        if isinstance(prompt, Conversation):
            return [1] * len(prompt.messages)
        if "\0" in prompt:
            raise InvalidRequest("no NUL, please", param="prompt")
        return [ord(c) for c in prompt] if isinstance(prompt, str) else [1] * len(prompt)

    def encoded(
        self, prompt: Prompt, max_tokens: int | None = None, *, add_special_tokens: bool = True
    ) -> Encoded:
        return Encoded(self.encode(prompt, max_tokens, add_special_tokens=add_special_tokens))

    def encode_bare(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def check(self, ids: Sequence[int], *, param: str) -> None:
        if any(i >= self.vocab_size for i in ids):
            raise InvalidRequest("no such letter", param=param)

    @property
    def description(self) -> dict[str, str]:
        return {"tokenizer_class": type(self).__name__}

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [f"'{chr(i)}" for i in ids]

    def written(self, ids: Sequence[int]) -> str:
        return self.decode(ids)

    def render(self, conversation: Conversation) -> str:
        return "".join(f"<{m.role}>{m.content}" for m in conversation.messages)

    def spelling(self, token_id: int) -> Spelling:
        return Spelling(chr(token_id), chr(token_id).encode())

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


class FakeEngine(Generator):
    """Jobs wait in `running` until the test says what becomes of them."""

    capacity = 1
    info = EngineInfo(
        kind=EngineKind.THREADED,
        why="a test wants it",
        device="cpu",
        dtype="float32",
        max_context=20,
        parameters=1,
        weight_bytes=4,
    )

    def __init__(
        self,
        capacity: int = 1,
        load_error: LLMServeError | None = None,
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        self.capacity = capacity
        self.clock = clock
        self.tokenizer = LetterTokenizer()
        self.running: list[Job] = []
        self.started: list[Job] = []
        self.is_closed = False
        self._load_error = load_error
        self.prompts = PreparationPool("fake", clock)

    async def load(self, on_progress: Callable[[LoadProgress], None]) -> None:
        on_progress(LoadProgress("weights", 0.5))
        self.prompts = PreparationPool("fake", self.clock)
        if self._load_error is not None:
            raise self._load_error

    @property
    def spelling(self) -> Callable[[int], Spelling]:
        return self.tokenizer.spelling

    @property
    def decode(self) -> Callable[[Sequence[int]], str]:
        return self.tokenizer.decode

    async def prepare(
        self, requests: Sequence[GenerationRequest], caller: Caller, deadline: float, hold: Hold
    ) -> Sequence[TokenTask]:
        spec = ModelSpec("fake")
        builder = TaskBuilder(spec, self.tokenizer, self.info, self.prompts, self.clock)  # type: ignore[arg-type]
        return await builder.build(requests, caller, deadline, hold)

    async def read(self, work, *, size: int, caller: Caller, hold: Hold):  # type: ignore[no-untyped-def]
        return await self.prompts.run(
            partial(work, self.tokenizer), size=size, caller=caller.name, on_end=hold()
        )

    def fail_preparing(self, error: LLMServeError) -> int:
        return self.prompts.fail(error)

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        return WarmReport((0.0,) * len(prompts), (3,) * len(prefixes), (None,) * len(prefixes))

    def start(self, job: Job) -> None:
        assert len(self.running) < self.capacity
        job.started_at = time.monotonic()
        self.running.append(job)
        self.started.append(job)
        job.mailbox.post(Started(job.task.prompt_tokens))

    def say(self, job: Job, text: str, told: TokenLogprobs | None = None) -> None:
        """One token with this text, and its log probabilities if there are any."""
        job.completion_tokens += 1
        job.first_token_at = job.first_token_at or time.monotonic()
        job.last_step_at = time.monotonic()
        if job.is_cancelled:
            job.wasted_tokens += 1
        if told is None:
            job.mailbox.post(Delta(text, (7,)))
        else:
            job.mailbox.post(Delta(text, (told.token_id,), (told,)))

    def finish(self, job: Job, error: LLMServeError | None = None) -> None:
        """Let go of a job, as a worker thread would at its end."""
        usage = Usage(job.task.prompt_tokens, job.completion_tokens)
        if error is not None:
            job.mailbox.post(Failed(error, usage))
        elif job.is_cancelled:
            job.mailbox.post(Cancelled(usage))
        else:
            job.mailbox.post(Finish(FinishReason.STOP, usage))
        self.running.remove(job)
        job.on_done()

    def finish_all(self, jobs: Sequence[Job] | None = None) -> None:
        for job in list(self.running if jobs is None else jobs):
            self.finish(job)

    def stats(self) -> EngineStats:
        return EngineStats(len(self.running), None, self.prompts.seconds_running)

    async def close(self) -> None:
        self.is_closed = True
        self.prompts.close(ModelUnloaded("the model was unloaded"))


class TalkingEngine(FakeEngine):
    """Every answer is `ab`, and over."""

    def start(self, job: Job) -> None:
        super().start(job)
        asyncio.get_running_loop().call_soon(self._answer, job)

    def _answer(self, job: Job) -> None:
        if job not in self.running:
            return
        for letter in "ab":
            tells = job.task.sampling.logprobs is not None
            self.say(job, letter, TokenLogprobs(ord(letter), -0.5) if tells else None)
        self.finish(job)


class AdaptingEngine(FakeEngine):
    """Takes adapters. One of a name in `may_load` is loaded when the test says so; one of a name in
    `load_errors` never is. What runs with one keeps it."""

    def __init__(self, capacity: int = 1) -> None:
        super().__init__(capacity)
        self.loaded: dict[str, Path] = {}
        self.began: list[str] = []
        self.may_load: dict[str, asyncio.Event] = {}
        self.load_errors: dict[str, LLMServeError] = {}

    @property
    def adapters(self) -> Sequence[AdapterInfo]:
        return [AdapterInfo(name, 4, 1000, ("q_proj",)) for name in self.loaded]

    async def load_adapter(self, spec: AdapterSpec, folder: Path) -> AdapterInfo:
        self.began.append(spec.name)
        if spec.name in self.may_load:
            await self.may_load[spec.name].wait()
        if spec.name in self.load_errors:
            raise self.load_errors[spec.name]
        if self.is_closed:
            raise ModelUnloaded("the model was unloaded")
        assert spec.name not in self.loaded
        self.loaded[spec.name] = folder
        return AdapterInfo(spec.name, 4, 1000, ("q_proj",))

    async def unload_adapter(self, name: str) -> None:
        assert all(job.token_task.adapter != name for job in self.running if not job.is_cancelled)
        self.loaded.pop(name, None)

    def start(self, job: Job) -> None:
        assert job.token_task.adapter in (None, *self.loaded)
        super().start(job)


class SlowEngine(FakeEngine):
    """Loads when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_load = asyncio.Event()

    async def load(self, on_progress: Callable[[LoadProgress], None]) -> None:
        await self.may_load.wait()
        await super().load(on_progress)
