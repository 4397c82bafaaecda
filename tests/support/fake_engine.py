"""An engine without threads or weights, moved by the test that owns it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from llmserve.domain import (
    Cancelled,
    Delta,
    EngineInfo,
    EngineKind,
    EngineStats,
    Failed,
    Finish,
    FinishReason,
    LoadProgress,
    Prompt,
    Started,
    TokenLogprobs,
    Usage,
    WarmReport,
)
from llmserve.engines.job import Job
from llmserve.errors import InvalidRequest, LLMServeError
from llmserve.text.spelling import Spelling


class LetterTokenizer:
    """One token per letter of a text; token ids as they are."""

    vocab_size = 128
    warnings: tuple[str, ...] = ()

    def encode(self, prompt: Prompt, max_tokens: int | None = None) -> list[int]:
        if "\0" in prompt:
            raise InvalidRequest("no NUL, please", param="prompt")
        return [ord(c) for c in prompt] if isinstance(prompt, str) else [1] * len(prompt)

    def check(self, ids: Sequence[int], *, param: str) -> None:
        if any(i >= self.vocab_size for i in ids):
            raise InvalidRequest("no such letter", param=param)

    def spelling(self, token_id: int) -> Spelling:
        return Spelling(chr(token_id), chr(token_id).encode())


class FakeEngine:
    """Jobs wait in `running` until the test says what becomes of them."""

    def __init__(self, capacity: int = 1, load_error: LLMServeError | None = None) -> None:
        self.capacity = capacity
        self.tokenizer = LetterTokenizer()
        self.info = EngineInfo(
            kind=EngineKind.THREADED,
            why="a test wants it",
            device="cpu",
            dtype="float32",
            max_context=20,
            parameters=1,
            weight_bytes=4,
        )
        self.running: list[Job] = []
        self.started: list[Job] = []
        self.is_closed = False
        self._load_error = load_error

    async def load(self, on_progress: Callable[[LoadProgress], None]) -> None:
        on_progress(LoadProgress("weights", 0.5))
        if self._load_error is not None:
            raise self._load_error

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        return WarmReport((0.0,) * len(prompts), (3,) * len(prefixes), (None,) * len(prefixes))

    def start(self, job: Job) -> None:
        assert len(self.running) < self.capacity
        job.started_at = time.monotonic()
        self.running.append(job)
        self.started.append(job)
        job.mailbox.post(Started(len(job.task.prompt_ids)))

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
        usage = Usage(len(job.task.prompt_ids), job.completion_tokens)
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
        return EngineStats(len(self.running), None)

    async def close(self) -> None:
        self.is_closed = True
