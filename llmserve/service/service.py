"""The service: every transport's one door to the engines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakKeyDictionary

from loguru import logger

from llmserve.admission.gate import Gate
from llmserve.admission.limits import Admission, Limiter
from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    GenerationRequest,
    Message,
    Prompt,
    SamplingFields,
    SamplingParams,
    Scope,
)
from llmserve.engines.base import Engine
from llmserve.engines.job import Task
from llmserve.errors import (
    Forbidden,
    InvalidRequest,
    LLMServeError,
    NotReady,
    PromptTooLong,
    ShuttingDown,
    TooMany,
    WaitTimeout,
)
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ServedModel
from llmserve.service.account import Account
from llmserve.service.generation import Generation
from llmserve.service.shares import Shares
from llmserve.text.length_bound import TooLong
from llmserve.timer import awake_timeout

FAREWELL_SECONDS = 5.0
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

    One gate per loaded model bounds what runs and what waits.
    """

    def __init__(
        self,
        registry: Registry,
        loader: Loader,
        limits: Limits,
        metrics: Metrics,
        *,
        limiter: Limiter | None = None,
        account: Account | None = None,
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        self.registry = registry
        self.loader = loader
        self.metrics = metrics
        self.is_draining = False
        self.is_retiring = False
        self.limiter = limiter or Limiter(None)
        self._account = account or Account(metrics)
        self._limits = limits
        self._clock = clock
        self._gates: WeakKeyDictionary[Engine, Gate] = WeakKeyDictionary()
        self._open: set[Generation] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    @property
    def patience_seconds(self) -> float:
        """How long a request may wait."""
        return self._limits.wait_timeout_seconds

    @property
    def has_open(self) -> bool:
        """Whether any generation is open."""
        return bool(self._open)

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

        What needs no tokens is looked at before prompts are made into them, which may take long.

        Raises:
            InvalidRequest: the prompt or a parameter cannot be served.
            Forbidden: the caller's key is not for this model, or not for generating.
            ModelNotFound: no such model.
            NotReady: the model is loading or broken, or the server drains.
            TooMany: no place in the queue, no hope to be served in time, or over a limit.
            WaitTimeout: the deadline came before the prompt's tokens.
        """
        arrived_at = self._clock()
        generations: list[Generation] = []
        try:
            with self._counting_refusals(caller):
                self._refuse_if_draining()
                self._check_scope(caller)
                async with self._leased(requests[0], caller) as served:
                    self._check_room(requests, served, caller, arrived_at)
                    with self._admitted(caller, len(requests)) as (admission, shares):
                        tasks = await self._prepare(requests, served, caller, shares, arrived_at)
                        self._refuse_if_draining()
                        self._check_room(requests, served, caller, arrived_at)
                        admission.charge(sum(len(task.prompt_ids) for task in tasks))
                        for request, task in zip(requests, tasks, strict=True):
                            generations.append(
                                self._admit(request, served, task, arrived_at, caller, shares)
                            )
            yield generations
        finally:
            for generation in generations:
                generation.close()
                self._open.discard(generation)
            if not self._open:
                self._all_closed.set()

    def load(self, model: ServedModel) -> tuple[int, int]:
        """How many generations of a model are running and waiting."""
        gate = self._gates.get(model.engine) if model.engine is not None else None
        return (gate.running, gate.waiting) if gate is not None else (0, 0)

    def begin_drain(self) -> None:
        """Take no new work from now on; that includes prompts that are not tokens yet."""
        self.is_draining = True
        for model in self.registry.models:
            if model.preparation is not None:
                model.preparation.fail(_draining())

    async def drain(self, timeout_seconds: float) -> None:
        """Let open generations finish; end those that are left with an error event."""
        self.begin_drain()
        try:
            async with awake_timeout(timeout_seconds, self._clock):
                await self._all_closed.wait()
            return
        except TimeoutError:
            logger.warning("drain deadline: {} generations are cut short", len(self._open))
        self.cut_short()
        with contextlib.suppress(TimeoutError):
            async with awake_timeout(FAREWELL_SECONDS, self._clock):
                await self._all_closed.wait()

    def cut_short(
        self, model: ServedModel | None = None, error: LLMServeError | None = None
    ) -> None:
        """End every open generation (of a model) with an error event."""
        error = error or ShuttingDown(
            "the server is shutting down and could not wait for this answer"
        )
        for generation in list(self._open):
            if model is None or generation.served is model:
                generation.fail(error)

    def fail_silent(self, model: ServedModel, seconds: float, error: LLMServeError) -> int:
        """End the generations that run and made no token for so long; returns how many."""
        silent = [g for g in self._open if g.served is model and g.silent_seconds > seconds]
        for generation in silent:
            generation.fail(error)
        return len(silent)

    @contextlib.asynccontextmanager
    async def _leased(
        self, request: GenerationRequest, caller: Caller
    ) -> AsyncIterator[ServedModel]:
        """The model of a request, ready, and held while the request is prepared."""
        self._check_model(self.registry.find(request.model), caller)
        patience = min(
            self._limits.wait_timeout_seconds,
            request.timeout_seconds or self._limits.request_timeout_seconds,
        )
        served = await self.loader.acquire(request.model, patience)
        with self.registry.lease(served):
            yield served

    def _check_room(
        self,
        requests: Sequence[GenerationRequest],
        served: ServedModel,
        caller: Caller,
        arrived_at: float,
    ) -> None:
        deadline = arrived_at + min(map(self._seconds, requests))
        self._gate(served).check_room(
            len(requests),
            caller=caller.name,
            weight=caller.priority,
            patience_seconds=max(
                0.0, min(self._limits.wait_timeout_seconds, deadline - self._clock())
            ),
        )

    @contextlib.contextmanager
    def _admitted(self, caller: Caller, requests: int) -> Iterator[tuple[Admission, Shares]]:
        """Let in by the limits of the key, while inside and as long as a share is out.

        Refused by us later, the requests count for nothing; with a prompt that cannot be served, or
        abandoned by their caller, they do: making tokens was work.
        """
        admission = self.limiter.admit(caller, requests=requests)
        shares = Shares(admission)
        try:
            yield admission, shares
        except (TooMany, NotReady):
            admission.refund()
            raise
        finally:
            shares.close()

    async def _prepare(
        self,
        requests: Sequence[GenerationRequest],
        served: ServedModel,
        caller: Caller,
        shares: Shares,
        arrived_at: float,
    ) -> list[Task]:
        """Everything about the requests that can be wrong, checked."""
        deadline = arrived_at + min(map(self._seconds, requests))
        encoded: dict[Prompt, list[int]] = {}
        try:
            async with awake_timeout(deadline - self._clock(), self._clock):
                for request in requests:
                    if request.prompt not in encoded:
                        encoded[request.prompt] = await self._encode(
                            request, served, caller, shares
                        )
        except TimeoutError:
            raise WaitTimeout(
                f"the prompt was not made into tokens within {self._clock() - arrived_at:.1f} s, "
                "which is all the time that this request has; send a shorter one, allow it more "
                "time, or try again later"
            ) from None
        return [
            self._task(request, served, encoded[request.prompt], caller, arrived_at)
            for request in requests
        ]

    async def _encode(
        self, request: GenerationRequest, served: ServedModel, caller: Caller, shares: Shares
    ) -> list[int]:
        """On the model's own threads. They hold a share of the key's limits as long as they work,
        though the caller may have left."""
        engine, prompt = served.loaded_engine, request.prompt
        max_context = engine.info.max_context
        try:
            return await served.loaded_preparation.run(
                partial(engine.tokenizer.encode, prompt, max_context),
                size=_size(prompt),
                caller=caller.name,
                weight=caller.priority,
                on_end=partial(shares.take(), 0),
            )
        except TooLong as error:
            max_tokens = self._sampling(request, served).max_tokens or 1
            raise PromptTooLong(error.fewest, max_tokens, max_context, is_exact=False) from None

    def _seconds(self, request: GenerationRequest) -> float:
        """How long after it came the request must be over."""
        most = self._limits.request_timeout_seconds
        return min(request.timeout_seconds or most, most)

    def _sampling(self, request: GenerationRequest, served: ServedModel) -> SamplingParams:
        return SamplingParams.resolve(
            request.sampling,
            served.spec.sampling,
            _bounded(served.loaded_engine.info.sampling, request.defaults),
            request.defaults,
        )

    def _task(
        self,
        request: GenerationRequest,
        served: ServedModel,
        prompt_ids: Sequence[int],
        caller: Caller,
        arrived_at: float,
    ) -> Task:
        info = served.loaded_engine.info
        if not prompt_ids:
            raise InvalidRequest("the prompt is empty; send at least one token", param="prompt")
        sampling = self._sampling(request, served)
        room = info.max_context - len(prompt_ids)
        if room < 1:
            raise PromptTooLong(len(prompt_ids), sampling.max_tokens or 1, info.max_context)
        biased = [token_id for token_id, _ in sampling.logit_bias]
        served.loaded_engine.tokenizer.check(biased, param="logit_bias")
        max_tokens = min(room, sampling.max_tokens or room)
        if request.sampling.min_tokens is None:  # the model's own wish gives way
            sampling = replace(sampling, min_tokens=min(sampling.min_tokens, max_tokens))
        if sampling.min_tokens > max_tokens:
            raise InvalidRequest(
                f"min_tokens is {sampling.min_tokens} and at most {max_tokens} can be generated; "
                "lower it",
                param="min_tokens",
            )
        return Task(
            request_id=request.id,
            prompt_ids=tuple(prompt_ids),
            sampling=sampling.under(info.rules),
            max_tokens=max_tokens,
            deadline=arrived_at + self._seconds(request),
            caller=caller.name,
            weight=caller.priority,
            cache_salt=request.cache_salt,
        )

    def _admit(
        self,
        request: GenerationRequest,
        served: ServedModel,
        task: Task,
        arrived_at: float,
        caller: Caller,
        shares: Shares,
    ) -> Generation:
        lease = contextlib.ExitStack()
        lease.enter_context(self.registry.lease(served))
        charge = shares.take()
        generation = Generation(
            request,
            served,
            task,
            caller,
            self.metrics,
            self._account,
            release_lease=lease.close,
            charge=charge,
            arrived_at=arrived_at,
            clock=self._clock,
        )
        try:
            generation.enter(
                self._gate(served), wait_timeout_seconds=self._limits.wait_timeout_seconds
            )
        except LLMServeError:
            lease.close()
            charge(0)
            raise
        self._open.add(generation)
        self._all_closed.clear()
        return generation

    def _gate(self, served: ServedModel) -> Gate:
        engine = served.loaded_engine
        gate = self._gates.get(engine)
        if gate is None:
            gate = Gate(engine.capacity, self._limits.max_waiting, self._clock)
            self._gates[engine] = gate
        return gate

    def _check_scope(self, caller: Caller) -> None:
        if Scope.GENERATE not in caller.scopes:
            raise Forbidden(
                f"key {caller.name!r} may not generate; it has the scopes "
                f"{', '.join(sorted(caller.scopes))}"
            )

    def _check_model(self, served: ServedModel, caller: Caller) -> None:
        if not caller.may_use(served.names):
            allowed = ", ".join(sorted(caller.models or ()))
            raise Forbidden(
                f"key {caller.name!r} is not for model {served.spec.name!r}; "
                f"it may use {allowed or 'none'}",
                param="model",
            )

    def _refuse_if_draining(self) -> None:
        if self.is_draining:
            raise _draining()

    @contextlib.contextmanager
    def _counting_refusals(self, caller: Caller) -> Iterator[None]:
        try:
            yield
        except LLMServeError as error:
            self._account.refused(caller, error)
            raise


def _draining() -> ShuttingDown:
    return ShuttingDown(
        "the server is shutting down and takes no new work; ask another instance",
        retry_after_seconds=5.0,
    )


def _size(prompt: Prompt) -> int:
    """Characters of a text or a conversation; token ids, which cost less, count one each."""
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(part.content) if isinstance(part, Message) else 1 for part in prompt)


def _bounded(recommended: SamplingFields, defaults: SamplingFields) -> SamplingFields:
    """A model's recommended `max_tokens` makes no answer longer than its transport does."""
    if recommended.max_tokens is None or defaults.max_tokens is None:
        return recommended
    return replace(recommended, max_tokens=min(recommended.max_tokens, defaults.max_tokens))
