"""What an operator has run beforehand: prompts, and prefixes whose keys and values stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from llmserve.clock import awake_clock
from llmserve.domain import Prompt, SamplingParams, WarmReport
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.job import Job
from llmserve.engines.own_thread import on_own_thread
from llmserve.engines.prefix import beginning, why_unkept
from llmserve.engines.private_job import private_job, unloaded
from llmserve.engines.task import TokenTask
from llmserve.engines.warmup import warm_up_task
from llmserve.engines.weights.loading import LoadedModel
from llmserve.errors import LLMServeError

T = TypeVar("T")


class OnLoop(Protocol):
    """Calls a function between two steps."""

    async def __call__(self, function: Callable[[Scheduler], T]) -> T:
        """What it returns."""
        ...


class Warming:
    """Runs jobs that no request asked for, beside those that were admitted, one after another.

    Owned by the event loop. Prefixes are kept from `least_kept` tokens on; `None` where none are.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        name: str,
        max_context: int,
        least_kept: int | None,
        submit: Callable[[Job], None],
        call: OnLoop,
    ) -> None:
        self._loaded = loaded
        self._name = name
        self._max_context = max_context
        self._least_kept = least_kept
        self._submit = submit
        self._call = call

    async def run(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        """As `Generator.warm`.

        Raises:
            LLMServeError: as there.
        """
        seconds = []
        for prompt in prompts:
            begun = awake_clock()
            await self._generate(await self._aside(warm_up_task, self._loaded, prompt))
            seconds.append(awake_clock() - begun)
        return WarmReport.of(seconds, [await self._pin(prefix) for prefix in prefixes])

    async def _aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """On a thread for this alone: an operator's prompt goes through the chat template, too.
        That may loop, and nothing else must wait for it."""
        return await on_own_thread(f"generate-warm-{self._name}", partial(work, *arguments))

    async def _generate(self, task: TokenTask) -> None:
        done = asyncio.Event()
        with private_job(task, self._name, on_done=done.set) as job:
            try:
                self._submit(job)
            except RuntimeError:
                raise unloaded(self._name) from None
            await done.wait()

    async def _pin(self, prefix: Prompt) -> tuple[int, str | None]:
        """Tokens that are kept, or 0 and why not."""
        try:
            token_ids = await self._aside(beginning, prefix, self._loaded.tokenizer)
        except LLMServeError as error:  # the chat template refuses it, say
            return 0, error.message
        if self._least_kept is None:
            return 0, "prefix_caching is off"
        problem = why_unkept(len(token_ids), self._least_kept, self._max_context)
        if problem is not None:
            return 0, problem
        # Its keys and values are in the cache once a token was made after it.
        await self._generate(
            TokenTask(
                request_id="warm-up",
                prompt_ids=token_ids,
                sampling=SamplingParams(temperature=0.0, ignore_eos=True),
                max_tokens=1,
            )
        )
        kept = await self._call(lambda scheduler: scheduler.pin(token_ids))
        if not kept:
            return 0, (
                "pinned prefixes may take half of the KV cache, and of the recurrent states if "
                "there are any; pin fewer or shorter ones"
            )
        return kept, None
