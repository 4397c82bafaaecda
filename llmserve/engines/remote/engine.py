"""RemoteEngine: requests are sent to one of several servers, and their answers come back as
events.

Tokenizer, chat template, constraints and parsers are theirs. Runs on the event loop; knows no
torch.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import httpx
from loguru import logger

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    Cancelled,
    EngineInfo,
    EngineKind,
    EngineStats,
    Failed,
    GenerationRequest,
    LoadProgress,
    ModelSpec,
    Prompt,
    SamplingFields,
    SamplingParams,
    SyntaxInfo,
    Terminal,
    WarmReport,
)
from llmserve.domain.conversation import prompt_size
from llmserve.engines.engine import Generator, Hold, no_adapters
from llmserve.engines.job import Job
from llmserve.engines.options import EngineOptions
from llmserve.engines.private_job import private_job, unloaded
from llmserve.engines.progress import OnProgress, interruptible
from llmserve.engines.remote.connecting import connect
from llmserve.engines.remote.delivery import Carrier, Delivery
from llmserve.engines.remote.fleet import Upstreams
from llmserve.engines.remote.key import UpstreamKey
from llmserve.engines.remote.learned_tokens import LearnedTokens
from llmserve.engines.remote.prefix_memory import digest_of
from llmserve.engines.remote.request_body import unsaid
from llmserve.engines.remote.retry_budget import RetryBudget
from llmserve.engines.remote.server_kind import TAKES, ServerKind
from llmserve.engines.remote.task import RemoteTask
from llmserve.engines.remote.transport import Served
from llmserve.engines.warmup import WARMUP_TOKENS
from llmserve.errors import (
    GenerationFailed,
    InvalidRequest,
    LLMServeError,
    ModelBroken,
    ShuttingDown,
)
from llmserve.observability.context import request_id, trace_headers
from llmserve.text.spelling import Spelling

if TYPE_CHECKING:
    from llmserve.text.tokenizer import Tokenizer

T = TypeVar("T")

DEVICE: Final = "remote"
LARGE: Final = 2**16
"""Characters of a prompt that is written in a thread: larger ones take milliseconds."""
CHARACTERS_PER_TOKEN: Final = 4.0
"""Until the first answer has told better."""
NEWEST_SHARE: Final = 0.05
SAFE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,256}")
"""A request's id, if a header may have it."""


class RemoteEngine(Generator):
    """At most `max_running` requests at once, over all upstreams. Owned by the event loop."""

    refuses_late: ClassVar[bool] = True

    def __init__(
        self,
        spec: ModelSpec,
        options: EngineOptions,
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        assert spec.remote is not None, "the model is served here"
        self._spec = spec
        self._remote = spec.remote
        self._options = options
        self._clock = clock
        self._tokens = LearnedTokens()
        self._key = UpstreamKey(spec.remote)
        self._client: httpx.AsyncClient | None = None
        self._upstreams: Upstreams | None = None
        self._carrier: Carrier | None = None
        self._running: dict[Job, asyncio.Task[Terminal]] = {}
        self._is_closing = False
        self._characters_per_token = CHARACTERS_PER_TOKEN

    @property
    def capacity(self) -> int:
        """As the manifest says."""
        return self._remote.max_running

    @property
    def spelling(self) -> Callable[[int], Spelling]:
        """Of tokens whose log probabilities were told."""
        return self._tokens.spelling

    @property
    def decode(self) -> Callable[[Sequence[int]], str]:
        return self._tokens.decode

    @property
    def info(self) -> EngineInfo:
        upstreams = self._known.infos
        served = self._served
        up = len(self._known.available)
        architecture, parameters = served.facts.get("architecture"), served.facts.get("parameters")
        return EngineInfo(
            kind=EngineKind.REMOTE,
            why=f"{up} of {len(upstreams)} upstreams take requests ({served.kind.value})",
            device=DEVICE,
            dtype=str(served.facts.get("dtype") or "unknown"),
            max_context=self._max_context(served),
            parameters=parameters if isinstance(parameters, int) else 0,
            weight_bytes=0,
            warnings=tuple(self._known.problems) + self._unsaid(served.kind),
            fingerprint=_fingerprint(self._spec),
            syntax=_syntax(served),
            architecture=architecture if isinstance(architecture, str) else "",
            takes_conversations=True,
            has_tokenizer=False,
            upstreams=upstreams,
        )

    async def load(self, on_progress: OnProgress) -> None:
        """Ask every upstream for the model. One that has it is enough; the others are asked again
        and again."""
        report = interruptible(on_progress, lambda: self._is_closing, self._spec.name)
        report(LoadProgress("asking upstreams"))
        await asyncio.to_thread(self._key.read)
        self._client, self._upstreams = await connect(
            self._spec, self._key, self._tokens, self._options.is_drained, self._clock
        )
        await self._upstreams.look()
        report(LoadProgress("asking upstreams", 1.0))
        if not self._upstreams.available:
            raise ModelBroken(
                f"no upstream of model {self._spec.name!r} serves it: "
                f"{'; '.join(self._upstreams.problems)}"
            )
        self._carrier = Carrier(
            self._remote,
            self._upstreams,
            RetryBudget(self._remote.retry_share, self._clock),
            self._clock,
            partial(self._options.on_attempt, self._spec.name),
        )
        self._upstreams.watch()
        if self._spec.warmup_prompts:
            report(LoadProgress("warm-up"))
            await self.warm(self._spec.warmup_prompts, ())

    async def prepare(
        self, requests: Sequence[GenerationRequest], caller: Caller, deadline: float, hold: Hold
    ) -> Sequence[RemoteTask]:
        """Nothing is made into tokens: that there is a server that can be told all of it is what is
        checked."""
        return [await self._task(request, caller, deadline, hold) for request in requests]

    async def read(
        self, work: Callable[[Tokenizer], T], *, size: int, caller: Caller, hold: Hold
    ) -> T:
        """Refused: the tokenizer is on other servers."""
        raise InvalidRequest(
            f"model {self._spec.name!r} is on another server, and so is its tokenizer; ask there",
            param="model",
        )

    def fail_preparing(self, error: LLMServeError) -> int:
        """Nobody waits for that."""
        return 0

    def start(self, job: Job) -> None:
        if self._carrier is None or self._is_closing:
            raise RuntimeError("the engine is closed")
        task = job.task
        assert isinstance(task, RemoteTask), "the task is another engine's"
        delivery = Delivery(self._carrier, job, task)
        running = asyncio.create_task(self._deliver(delivery), name=f"remote-{task.request_id}")
        self._running[job] = running
        job.on_cancel = running.cancel
        running.add_done_callback(partial(self._done, job))
        if job.is_cancelled:
            running.cancel()

    def stats(self) -> EngineStats:
        """How many requests are on their way. None hangs: each has limits of its own."""
        return EngineStats(running=len(self._running))

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        """Prompts go the way of requests; what is kept cached is the upstreams' to say."""
        seconds = []
        for prompt in prompts:
            begun = self._clock()
            await self._generate(prompt)
            seconds.append(self._clock() - begun)
        problem = "the model is on other servers; pin it there"
        return WarmReport.of(seconds, ((0, problem) for _ in prefixes))

    def drain_upstream(self, url: str, *, is_drained: bool) -> None:
        found = [upstream for upstream in self._known.all if upstream.url == url]
        if not found:
            known = ", ".join(upstream.url for upstream in self._known.all)
            raise InvalidRequest(
                f"model {self._spec.name!r} has no upstream {url[:200]!r}; it has {known}",
                param="upstream",
            )
        for upstream in found:
            upstream.is_drained = is_drained

    async def close(self) -> None:
        """End what runs, and close the connections."""
        self._is_closing = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._upstreams is not None:
            await self._upstreams.close()
        if self._client is not None:
            await self._client.aclose()

    @property
    def _known(self) -> Upstreams:
        assert self._upstreams is not None, "the engine is not loaded"
        return self._upstreams

    @property
    def _served(self) -> Served:
        """What the first upstream that has the model tells of it."""
        told = [u.served for u in self._known.all if u.served is not None and u.served.has_model]
        return told[0] if told else Served(ServerKind.UNKNOWN, has_model=False)

    def _max_context(self, served: Served) -> int | None:
        told = served.facts.get("max_model_len")
        lengths = [self._spec.max_context, told if isinstance(told, int) else None]
        return min((length for length in lengths if length is not None), default=None)

    def _unsaid(self, kind: ServerKind) -> tuple[str, ...]:
        names = unsaid(self._spec.sampling, TAKES[kind])
        return tuple(f"[sampling] {name} cannot be told to {kind.value} servers" for name in names)

    async def _task(
        self, request: GenerationRequest, caller: Caller, deadline: float, hold: Hold
    ) -> RemoteTask:
        if request.adapter is not None:
            raise no_adapters()
        sampling = SamplingParams.resolve(request.sampling, self._spec.sampling, request.defaults)
        size = prompt_size(request.prompt)
        context = self._max_context(self._served)
        task = RemoteTask(
            request_id=request.id,
            sampling=sampling,
            max_tokens=sampling.max_tokens or context or LARGE,
            deadline=deadline,
            caller=caller.name,
            priority=caller.priority,
            is_background=caller.is_background,
            request=request,
            digest=digest_of(request.prompt, request.cache_salt),
            headers=_headers(request.id),
            estimated_tokens=self._estimated(request.prompt, size),
        )
        if size <= LARGE:
            self._known.check(task)
            return task
        over = hold()
        try:
            await asyncio.to_thread(self._known.check, task)
        finally:
            over()
        return task

    def _estimated(self, prompt: Prompt, size: int) -> int:
        if isinstance(prompt, tuple):
            return len(prompt)
        return max(1, round(size / self._characters_per_token))

    async def _deliver(self, delivery: Delivery) -> Terminal:
        """The engine's boundary: whatever goes wrong is this request's error and no other's."""
        job = delivery.job
        request_id.set(job.task.request_id)
        try:
            finish = await delivery.run()
        except LLMServeError as error:
            return Failed(error, job.usage)
        except Exception:
            logger.exception("a request to an upstream failed unexpectedly")
            failure = GenerationFailed(
                "an unexpected error; the log has it under this request's id"
            )
            return Failed(failure, job.usage)
        self._learn(delivery.task, finish.usage.prompt_tokens)
        return finish

    def _learn(self, task: RemoteTask, prompt_tokens: int) -> None:
        """How many characters a token of this model's has, from a prompt long enough to tell."""
        if isinstance(task.request.prompt, tuple) or prompt_tokens < WARMUP_TOKENS:
            return
        told = prompt_size(task.request.prompt) / prompt_tokens
        self._characters_per_token += NEWEST_SHARE * (told - self._characters_per_token)

    def _done(self, job: Job, running: asyncio.Task[Terminal]) -> None:
        del self._running[job]
        if not running.cancelled():
            job.mailbox.post(running.result())
        elif job.is_cancelled:
            job.mailbox.post(Cancelled(job.usage))
        else:
            job.mailbox.post(Failed(ShuttingDown("the engine was closed"), job.usage))
        job.on_done()

    async def _generate(self, prompt: str) -> None:
        request = GenerationRequest(
            "warm-up",
            prompt,
            sampling=SamplingFields(max_tokens=WARMUP_TOKENS, temperature=0.0),
        )
        task = await self._task(request, Caller("warm-up"), float("inf"), lambda: lambda: None)
        done = asyncio.Event()
        with private_job(task, self._spec.name, on_done=done.set) as job:
            try:
                self.start(job)
            except RuntimeError:
                raise unloaded(self._spec.name) from None
            await done.wait()


def _headers(own_id: str) -> dict[str, str]:
    own = {"X-Request-ID": own_id} if SAFE_ID.fullmatch(own_id) else {}
    return {**(trace_headers.get() or {}), **own}


def _fingerprint(spec: ModelSpec) -> str:
    assert spec.remote is not None
    named = " ".join((spec.remote.model, *spec.remote.urls))
    return f"fp_{hashlib.sha256(named.encode()).hexdigest()[:16]}"


def _syntax(served: Served) -> SyntaxInfo:
    """Answers come read: whether they may have reasoning is told by few servers."""
    told = served.facts.get("reasoning")
    return SyntaxInfo(
        name=served.kind.value,
        is_own=True,
        has_reasoning=told if isinstance(told, bool) else TAKES[served.kind].reasoning,
        why="calls and reasoning are read by the model's own server",
    )
