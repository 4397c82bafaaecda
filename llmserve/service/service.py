"""The service: every transport's one door to the engines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

from loguru import logger

from llmserve.admission.gate import Gate
from llmserve.admission.limits import Admission, Limiter
from llmserve.clock import awake_clock
from llmserve.domain import Caller, GenerationRequest, Scope
from llmserve.engines.engine import Engine, Generator, Hold
from llmserve.engines.task import Task
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
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ServedModel
from llmserve.service.generation import Generation
from llmserve.service.place import Place
from llmserve.service.reading import Reading
from llmserve.service.record import RequestRecord
from llmserve.service.recorder import Recorder
from llmserve.service.shares import Shares
from llmserve.timer import awake_timeout

T = TypeVar("T")

FAREWELL_SECONDS = 5.0
"""After the drain deadline: time for readers to be told the error and leave."""
BEGIN_SECONDS = 5.0
"""How long a response has no head because its engine may still refuse: a client that sees an error
as a status can tell what kind it is."""


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
        recorder: Recorder,
        *,
        limiter: Limiter | None = None,
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        self.is_draining = False
        self.is_retiring = False
        self._registry = registry
        self._loader = loader
        self._limits = limits
        self._recorder = recorder
        self._limiter = limiter or Limiter(None)
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
                first = requests[0]
                async with self._leased(first.model, first.timeout_seconds, caller) as served:
                    deadline = arrived_at + self._seconds_for(requests)
                    self._check_room(len(requests), served, caller, deadline)
                    with self._admitted(caller, len(requests)) as (admission, shares):
                        tasks = await served.generator.prepare(
                            requests, caller, deadline, lambda: partial(shares.take(), 0)
                        )
                        self._refuse_if_draining()
                        self._check_room(len(requests), served, caller, deadline)
                        admission.charge(sum(task.prompt_tokens for task in tasks))
                        for task in tasks:
                            # One by one: if a later one is refused, these are closed.
                            generation = self._admit(served, task, arrived_at, caller, shares)
                            generations.append(generation)
            begin_by = self._clock() + BEGIN_SECONDS
            for generation in generations:
                await generation.begun(begin_by)
            yield generations
        finally:
            for generation in generations:
                generation.close()
                self._open.discard(generation)
            if not self._open:
                self._all_closed.set()

    async def awaken(
        self, name: str | None, caller: Caller, timeout_seconds: float | None
    ) -> ServedModel:
        """The model of this name, loaded if requests may load it.

        Raises:
            LLMServeError: as `open_all`.
        """
        with self._counting_refusals(caller):
            self._refuse_if_draining()
            self._check_scope(caller)
            async with self._leased(name, timeout_seconds, caller) as served:
                return served

    async def read(self, reading: Reading[T], caller: Caller) -> tuple[ServedModel, T]:
        """What a reading makes of a model's tokenizer, and the model. For the key's limits it is a
        request without tokens.

        Raises:
            LLMServeError: as `open_all`, or what the work raises.
        """
        most = self._limits.request_timeout_seconds
        seconds = min(most, reading.timeout_seconds or most)
        deadline = self._clock() + seconds
        async with self._tokenless(reading.id, reading.model, seconds, caller) as (served, hold):
            work, size, generator = reading.work, reading.size, served.generator
            try:
                async with awake_timeout(deadline - self._clock(), self._clock):
                    value = await generator.read(work, size=size, caller=caller, hold=hold)
            except TimeoutError:
                raise WaitTimeout(
                    f"the text was not read within {seconds:g} s; send a shorter one, or allow it "
                    "more time"
                ) from None
        return served, value

    async def count(self, request: GenerationRequest, caller: Caller) -> int:
        """How many tokens the prompt of a request has, though it be too long; nothing is
        generated. For the key's limits it is a request without tokens.

        Raises:
            LLMServeError: as `open_all`.
        """
        seconds = self._seconds_for([request])
        deadline = self._clock() + seconds
        async with self._tokenless(request.id, request.model, seconds, caller) as (served, hold):
            if not served.generator.info.has_tokenizer:
                raise InvalidRequest(
                    f"the tokens of model {served.spec.name!r} are counted on the server that has "
                    "it; ask there",
                    param="model",
                )
            try:
                [task] = await served.generator.prepare([request], caller, deadline, hold)
            except PromptTooLong as error:
                if not error.is_exact:
                    raise
                return error.prompt_tokens
        return task.prompt_tokens

    def load(self, model: ServedModel) -> tuple[int, int]:
        """How many generations of a model are running and waiting."""
        gate = self._gates.get(model.engine) if model.engine is not None else None
        return (gate.running, gate.waiting) if gate is not None else (0, 0)

    def begin_drain(self) -> None:
        """Take no new work from now on; that includes prompts that are not tokens yet."""
        self.is_draining = True
        for model in self._registry.models:
            if isinstance(model.engine, Generator):
                model.engine.fail_preparing(_draining())

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
    async def _tokenless(
        self, request_id: str, name: str | None, seconds: float, caller: Caller
    ) -> AsyncIterator[tuple[ServedModel, Hold]]:
        """A request that generates nothing: its model, and what holds its place among the key's
        open ones."""
        arrived_at = self._clock()
        with self._counting_refusals(caller):
            self._refuse_if_draining()
            self._check_scope(caller)
            async with self._leased(name, seconds, caller) as served:
                with self._admitted(caller, 1) as (_, shares):
                    yield served, lambda: partial(shares.take(), 0)
        name = served.spec.name
        RequestRecord(self._recorder, request_id, name, caller, arrived_at).was_read()

    @contextlib.asynccontextmanager
    async def _leased(
        self, name: str | None, timeout_seconds: float | None, caller: Caller
    ) -> AsyncIterator[ServedModel]:
        """The model of a request, ready, and held while the request is prepared."""
        found = self._registry.answering(name)
        self._check_model(found, caller)
        patience = min(
            self._limits.wait_timeout_seconds,
            timeout_seconds or self._limits.request_timeout_seconds,
        )
        served = await self._loader.acquire(found.spec.name, patience)
        with self._registry.lease(served):
            yield served

    def _check_room(self, count: int, served: ServedModel, caller: Caller, deadline: float) -> None:
        patience = min(self._limits.wait_timeout_seconds, deadline - self._clock())
        self._gate(served).check_room(
            count,
            caller=caller.name,
            priority=caller.priority,
            patience_seconds=max(0.0, patience),
        )

    @contextlib.contextmanager
    def _admitted(self, caller: Caller, requests: int) -> Iterator[tuple[Admission, Shares]]:
        """Let in by the limits of the key, while inside and as long as a share is out.

        Refused by us later, the requests count for nothing; with a prompt that cannot be served, or
        abandoned by their caller, they do: making tokens was work.
        """
        admission = self._limiter.admit(caller, requests=requests)
        shares = Shares(admission)
        try:
            yield admission, shares
        except (TooMany, NotReady):
            admission.refund()
            raise
        finally:
            shares.close()

    def _admit(
        self, served: ServedModel, task: Task, arrived_at: float, caller: Caller, shares: Shares
    ) -> Generation:
        lease = contextlib.ExitStack()
        lease.enter_context(self._registry.lease(served))
        place = Place(
            self._gate(served),
            caller,
            release_lease=lease.close,
            charge=shares.take(),
            on_change=partial(self._show_load, served),
        )
        name = served.spec.name
        record = RequestRecord(self._recorder, task.request_id, name, caller, arrived_at)
        generation = Generation(served, task, place, record, self._clock)
        generation.enter(self._limits.wait_timeout_seconds)
        self._open.add(generation)
        self._all_closed.clear()
        return generation

    def _show_load(self, served: ServedModel) -> None:
        self._recorder.load(served.spec.name, *self.load(served))

    def _seconds_for(self, requests: Sequence[GenerationRequest]) -> float:
        """How long requests that came together may take."""
        most = self._limits.request_timeout_seconds
        return min(most, *(request.timeout_seconds or most for request in requests))

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
            self._recorder.refused(caller, error)
            raise


def _draining() -> ShuttingDown:
    return ShuttingDown(
        "the server is shutting down and takes no new work; ask another instance",
        retry_after_seconds=5.0,
    )
