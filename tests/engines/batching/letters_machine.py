"""A step loop over letters, which a test turns by hand."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmserve.domain import Cancelled, Event, Failed, Finish, SamplingParams
from llmserve.engines.batching.loop import StepLoop
from llmserve.engines.batching.pacer import Pacer
from llmserve.engines.batching.sampled_token import SampledToken
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.step_result import StepResult
from llmserve.engines.batching.stream import Stream
from llmserve.engines.bridge import TokenBridge
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.scores import Scores
from llmserve.engines.step_report import StepReport
from llmserve.engines.task import TokenTask
from llmserve.engines.wakes import Wakes
from llmserve.errors import GenerationFailed, LLMServeError, OutOfMemory
from llmserve.text.detokenizer import Detokenizer

EOS = 3
POISON = 666


class Letters:
    """A tokenizer whose token n is the nth letter."""

    hf = None

    def detokenizer(self, prompt_ids: Sequence[int], shown: frozenset[int]) -> Detokenizer:
        assert not shown, "there are no special letters"
        if POISON + 1 in prompt_ids:
            raise ValueError("a prompt that breaks the tokenizer")
        return Detokenizer(lambda ids: "".join(chr(97 + i % 26) for i in ids), ())


class Lost(RuntimeError):
    """The device is gone."""


def letter_scores(part: Slice) -> Scores:
    """Token i has the log probability -i, and the only likeliest token is i + 1."""
    ids = part.sequence.token_ids[part.scored.start + 1 : part.scored.stop + 1]
    places = range(part.scored.start + 1, part.scored.stop + 1)
    logprobs = [-float(place) for place in places]
    top = array("i", [place + 1 for place in places])
    return Scores(1, array("i", ids), array("f", logprobs), top, top, array("f", logprobs))


@dataclass
class NextLetter:
    """A `Computation` that answers every row with the next letter; `most` slices are the memory it
    has, and the clock goes on while it works."""

    most: int = 1000
    error: Exception | None = None
    seconds: float = 0.0
    now: float = 0.0
    answer: Callable[[list[int]], int | None] = lambda ids: 10 + len(ids) % 10
    plans: list[StepPlan] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    may_go: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_go.set()

    def prepare(self, plan: StepPlan) -> StepPlan:
        self.now += self.seconds
        return plan

    def compute(self, plan: StepPlan, rows: list[None]) -> StepResult:
        self.now += 2 * self.seconds
        self.plans.append(plan)
        self.entered.set()
        assert self.may_go.wait(20)
        if self.error is not None:
            raise self.error
        if len(plan.slices) > self.most:
            raise MemoryError
        if any(POISON in part.sequence.token_ids for part in plan.slices):
            raise ValueError("poison")
        sampled = [part for part in plan.slices if part.is_sampled]
        assert len(rows) == len(sampled)
        tokens = [SampledToken(self.answer(part.sequence.token_ids)) for part in sampled]
        return StepResult(tokens, [letter_scores(part) for part in plan.slices if part.scored])

    def diagnose(self, error: Exception) -> LLMServeError:
        if isinstance(error, MemoryError):
            return OutOfMemory("full")
        return GenerationFailed(f"broke: {error}")

    def is_lost(self) -> bool:
        return isinstance(self.error, Lost)


class Machine:
    """A loop without a thread, and what it told."""

    def __init__(
        self,
        computation: NextLetter,
        *,
        num_blocks: int = 64,
        tokens: int = 64,
        scored: int | None = None,
        states: int | None = None,
    ) -> None:
        self.scheduler = Scheduler(
            num_blocks=num_blocks,
            block_size=4,
            max_tokens_per_step=tokens,
            max_sequences=16,
            max_scored_per_step=scored,
            num_states=states,
        )
        self.reports: list[StepReport] = []
        self.computation = computation
        self.wakes = Wakes(asyncio.get_running_loop())
        self.loop = StepLoop(
            self.scheduler,
            computation,
            self.admit,
            self.wakes,
            pacer=Pacer(tokens),
            clock=self.clock,
            on_step=self.reports.append,
        )
        self.done: list[Job] = []

    def clock(self) -> float:
        return self.computation.now

    def admit(self, job: Job) -> Stream[None]:
        bridge = TokenBridge(job, Letters(), (EOS,), self.clock, self.wakes.add)  # type: ignore[arg-type]
        return Stream(job, bridge, None)

    def submit(
        self,
        prompt: Sequence[int] = (1, 2),
        *,
        max_tokens: int = 3,
        is_background: bool = False,
        **params: Any,
    ) -> Job:
        task = TokenTask(
            request_id="id",
            prompt_ids=tuple(prompt),
            sampling=SamplingParams(**params),
            max_tokens=max_tokens,
            is_background=is_background,
        )
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=lambda: self.done.append(job))
        self.loop.submit(job)
        return job

    async def turns(self, count: int) -> None:
        for _ in range(count):
            self.loop.turn()
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def check_whole(self, *jobs: Job) -> None:
        """Every job ended once, was let go of once, and no block is held."""
        await asyncio.sleep(0)
        assert all(job.mailbox.terminal is not None for job in jobs)
        assert sorted(map(id, self.done)) == sorted(map(id, jobs))
        self.scheduler.check()
        assert self.scheduler.stats().blocks_used == 0
        assert self.scheduler.stats().states.used == 0
        assert self.scheduler.is_idle


async def events(job: Job) -> list[Event]:
    told: list[Event] = []
    while not (told and isinstance(told[-1], Finish | Failed | Cancelled)):
        told.append(await job.mailbox.next())
    return told
