"""The service: every transport's one door to the engines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from loguru import logger

from llmserve.admission.gate import Gate
from llmserve.domain import Caller, GenerationRequest, Prompt, SamplingParams
from llmserve.engines.job import Task
from llmserve.errors import InvalidRequest, LLMServeError, PromptTooLong, ShuttingDown
from llmserve.observability.metrics import Metrics
from llmserve.registry.registry import Registry
from llmserve.registry.served import ServedModel
from llmserve.service.generation import Generation

FAREWELL_SECONDS: Final = 5.0
"""After the drain deadline: time for readers to be told the error and leave."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes on.

    `max_waiting` is per model. `request_timeout_seconds` is both default and upper bound of a
    request's own timeout.
    """

    max_waiting: int
    wait_timeout_seconds: float
    request_timeout_seconds: float


class Service:
    """Turns a request into a generation. Owned by the event loop.

    One gate per model bounds what runs and what waits.
    """

    def __init__(self, registry: Registry, limits: Limits, metrics: Metrics) -> None:
        self.registry = registry
        self.metrics = metrics
        self._limits = limits
        self._gates = {
            served.spec.name: Gate(served.engine.capacity, limits.max_waiting, time.monotonic)
            for served in registry.models
        }
        self._open: set[Generation] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self.is_draining = False

    @contextlib.asynccontextmanager
    async def open(self, request: GenerationRequest, caller: Caller) -> AsyncIterator[Generation]:
        """Take a ticket for one request; see `open_all`."""
        async with self.open_all([request], caller) as generations:
            yield generations[0]

    @contextlib.asynccontextmanager
    async def open_all(
        self, requests: Sequence[GenerationRequest], caller: Caller
    ) -> AsyncIterator[Sequence[Generation]]:
        """Take a ticket for each request, or for none; all are for the same model.

        This is where a request can still be refused; later everything is an event. Leaving
        the context cancels what still runs.

        Raises:
            InvalidRequest: the prompt or a parameter cannot be served.
            ModelNotFound: no such model.
            NotReady: the model is loading or broken, or the server drains.
            QueueFull: no slot and no place in the queue.
        """
        arrived_at = time.monotonic()
        generations: list[Generation] = []
        try:
            with self._counting_refusals():
                served, tasks = await self._prepare(requests)
                self._refuse_if_draining()
                self._gates[served.spec.name].check_room(len(tasks))
                for request, task in zip(requests, tasks, strict=True):
                    generations.append(self._admit(request, served, task, arrived_at))
            logger.debug("{} opened {} generations", caller.name, len(generations))
            yield generations
        finally:
            for generation in generations:
                generation.close()
                self._open.discard(generation)
            if not self._open:
                self._all_closed.set()

    def load(self, model: str) -> tuple[int, int]:
        """How many generations of a model are running and waiting."""
        gate = self._gates[model]
        return gate.running, gate.waiting

    def begin_drain(self) -> None:
        """Take no new work from now on."""
        self.is_draining = True

    async def drain(self, timeout_seconds: float) -> None:
        """Let open generations finish; end those that are left with an error event."""
        self.begin_drain()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._all_closed.wait()
            return
        except TimeoutError:
            logger.warning("drain deadline: {} generations are cut short", len(self._open))
        self.cut_short()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._all_closed.wait()

    def cut_short(self) -> None:
        """End every open generation with an error event."""
        for generation in list(self._open):
            generation.fail(
                ShuttingDown("the server is shutting down and could not wait for this answer")
            )

    async def _prepare(
        self, requests: Sequence[GenerationRequest]
    ) -> tuple[ServedModel, list[Task]]:
        """Everything about the requests that can be wrong, checked; they are for one model."""
        self._refuse_if_draining()
        served = self.registry.ready(requests[0].model)
        encoded: dict[Prompt, list[int]] = {}
        for prompt in dict.fromkeys(request.prompt for request in requests):
            encoded[prompt] = await asyncio.to_thread(served.engine.tokenizer.encode, prompt)
        return served, [
            self._task(request, served, encoded[request.prompt]) for request in requests
        ]

    def _task(
        self, request: GenerationRequest, served: ServedModel, prompt_ids: Sequence[int]
    ) -> Task:
        info = served.engine.info
        if not prompt_ids:
            raise InvalidRequest("the prompt is empty; send at least one token", param="prompt")
        room = info.max_context - len(prompt_ids)
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(prompt_ids)} tokens and model {served.spec.name!r} takes "
                f"{info.max_context}, the answer included; shorten it",
                param="prompt",
            )
        sampling = SamplingParams.resolve(
            request.sampling, served.spec.sampling, info.sampling, request.defaults
        )
        max_tokens = min(room, sampling.max_tokens or room)
        if sampling.min_tokens > max_tokens:
            raise InvalidRequest(
                f"min_tokens is {sampling.min_tokens} and at most {max_tokens} can be generated; "
                "lower it",
                param="min_tokens",
            )
        seconds = min(
            request.timeout_seconds or self._limits.request_timeout_seconds,
            self._limits.request_timeout_seconds,
        )
        return Task(
            request_id=request.id,
            prompt_ids=tuple(prompt_ids),
            sampling=sampling,
            max_tokens=max_tokens,
            deadline=time.monotonic() + seconds,
        )

    def _admit(
        self, request: GenerationRequest, served: ServedModel, task: Task, arrived_at: float
    ) -> Generation:
        lease = contextlib.ExitStack()
        lease.enter_context(self.registry.lease(served))
        generation = Generation(
            request, served, task, self.metrics, lease.close, arrived_at=arrived_at
        )
        try:
            generation.enter(
                self._gates[served.spec.name],
                wait_timeout_seconds=self._limits.wait_timeout_seconds,
            )
        except LLMServeError:
            lease.close()
            raise
        self._open.add(generation)
        self._all_closed.clear()
        return generation

    def _refuse_if_draining(self) -> None:
        if self.is_draining:
            raise ShuttingDown(
                "the server is shutting down and takes no new work; ask another instance",
                retry_after_seconds=5.0,
            )

    @contextlib.contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except LLMServeError as error:
            self.metrics.rejected.labels(error.code).inc()
            raise
