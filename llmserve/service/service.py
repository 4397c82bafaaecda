"""The service: every transport's one door to the engines."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from loguru import logger

from llmserve.admission.limits import Limiter
from llmserve.clock import awake_clock
from llmserve.domain import Caller, EncodingAnswer, EncodingRequest, GenerationRequest
from llmserve.engines.engine import Hold
from llmserve.engines.task import Task
from llmserve.errors import (
    Displaced,
    InvalidRequest,
    LLMServeError,
    PromptTooLong,
    ShuttingDown,
    WaitTimeout,
)
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ServedModel
from llmserve.registry.served_adapter import ServedAdapter
from llmserve.service.encoding import Encoding
from llmserve.service.encoding_record import EncodingRecord
from llmserve.service.entrance import Entrance
from llmserve.service.generation import Generation
from llmserve.service.limits import Limits
from llmserve.service.open_requests import OpenRequests
from llmserve.service.permission import check_model, check_scope
from llmserve.service.purpose import check_encodes, check_generates
from llmserve.service.reading import Reading
from llmserve.service.record import RequestRecord
from llmserve.service.recorder import Recorder
from llmserve.service.shares import Shares
from llmserve.timer import awake_timeout

T = TypeVar("T")

DISPLACED_RETRY_SECONDS = 5.0
FAREWELL_SECONDS = 5.0
"""After the drain deadline: time for readers to be told the error and leave."""
BEGIN_SECONDS = 5.0
"""How long a response has no head because its engine may still refuse: a client that sees an error
as a status can tell what kind it is."""


class Service:
    """Turns a request into a generation, or has its inputs encoded. Owned by the event loop.

    `Entrance` is what a request passes on its way in; what is open is known here.
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
        self._limits = limits
        self._recorder = recorder
        self._clock = clock
        self._entrance = Entrance(
            registry, loader, limits, recorder, limiter or Limiter(None), clock
        )
        self._open = OpenRequests(clock)

    @property
    def patience_seconds(self) -> float:
        """How long a request may wait."""
        return self._limits.wait_timeout_seconds

    @property
    def has_open(self) -> bool:
        """Whether anybody waits for an answer."""
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
                self._refuse_if_draining(caller)
                check_scope(caller)
                first = requests[0]
                async with self._entrance.leased(
                    first.model, first.timeout_seconds, caller
                ) as resolved:
                    served = resolved.model
                    check_generates(served, self._registry, caller)
                    if resolved.adapter is not None:
                        adapter = resolved.adapter.spec.name
                        requests = [replace(request, adapter=adapter) for request in requests]
                    deadline = arrived_at + self._entrance.seconds_for(requests, caller)
                    self._entrance.gates.check_room(len(requests), served, caller, deadline)
                    with self._entrance.admitted(caller, len(requests)) as (admission, shares):
                        tasks = await served.generator.prepare(
                            requests, caller, deadline, lambda: partial(shares.take(), 0)
                        )
                        self._refuse_if_draining(caller)
                        self._entrance.gates.check_room(len(requests), served, caller, deadline)
                        admission.charge(sum(task.prompt_tokens for task in tasks))
                        for task in tasks:
                            # One by one: if a later one is refused, these are closed.
                            generation = self._admit(resolved, task, arrived_at, caller, shares)
                            generations.append(generation)
            begin_by = self._clock() + BEGIN_SECONDS
            for generation in generations:
                await generation.begun(begin_by)
            yield generations
        finally:
            for generation in generations:
                generation.close()
                self._open.discard(generation)

    async def encode(self, request: EncodingRequest, caller: Caller) -> EncodingAnswer:
        """What a model makes of the inputs of a request. Whoever is cancelled here gives everything
        back.

        Raises:
            LLMServeError: as `open_all`, or the inputs could not be computed.
        """
        arrived_at = self._clock()
        with self._counting_refusals(caller):
            encoding = await self._admitted_encoding(request, caller, arrived_at)
        try:
            return await encoding.answer()
        finally:
            encoding.close()
            self._open.discard(encoding)

    async def awaken(
        self, name: str | None, caller: Caller, timeout_seconds: float | None
    ) -> Resolved:
        """The model or adapter of this name, loaded if requests may load it.

        Raises:
            LLMServeError: as `open_all`.
        """
        with self._counting_refusals(caller):
            self._refuse_if_draining(caller)
            check_scope(caller)
            async with self._entrance.leased(name, timeout_seconds, caller) as resolved:
                return resolved

    async def read(self, reading: Reading[T], caller: Caller) -> tuple[ServedModel, T]:
        """What a reading makes of a model's tokenizer, and the model. An adapter's is its base's,
        and needs not be loaded for it. For the key's limits it is a request without tokens.

        Raises:
            LLMServeError: as `open_all`, or what the work raises.
        """
        most = self._limits.timeout_for(caller)
        seconds = min(most, reading.timeout_seconds or most)
        deadline = self._clock() + seconds
        async with self._tokenless(reading.id, reading.model, seconds, caller) as (served, hold):
            work, size, engine = reading.work, reading.size, served.loaded_engine
            try:
                async with awake_timeout(deadline - self._clock(), self._clock):
                    value = await engine.read(work, size=size, caller=caller, hold=hold)
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
        seconds = self._entrance.seconds_for([request], caller)
        deadline = self._clock() + seconds
        async with self._tokenless(request.id, request.model, seconds, caller) as (served, hold):
            check_generates(served, self._registry, caller)
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
        """How many generations of a model are running and waiting, without background work."""
        return self._entrance.gates.load(model)

    def background_load(self, model: ServedModel) -> tuple[int, int]:
        """How many of them are running and waiting in the background."""
        return self._entrance.gates.background_load(model)

    def begin_drain(self) -> None:
        """Take no new work from now on; that includes prompts that are not tokens yet."""
        self.is_draining = True
        for model in self._registry.models:
            if model.engine is not None:
                model.engine.fail_preparing(_draining())
        self.displace_background()

    def begin_retirement(self) -> None:
        """Another worker takes over: serve only what comes on open connections, and no background
        work."""
        self.is_retiring = True
        self.displace_background()

    def displace_background(
        self, model: ServedModel | None = None, adapter: ServedAdapter | None = None
    ) -> None:
        """End all background work (of a model, or an adapter) now; nobody waits for it."""
        error = Displaced(
            "this background request was ended as its worker or its model goes; send it again",
            retry_after_seconds=DISPLACED_RETRY_SECONDS,
        )
        self._open.fail_background(error, model, adapter)

    async def drain(self, timeout_seconds: float) -> None:
        """Let open generations finish; end those that are left with an error event."""
        self.begin_drain()
        if await self._open.closed(timeout_seconds):
            return
        logger.warning("drain deadline: {} requests are cut short", len(self._open))
        self.cut_short()
        await self._open.closed(FAREWELL_SECONDS)

    def cut_short(
        self,
        model: ServedModel | None = None,
        error: LLMServeError | None = None,
        adapter: ServedAdapter | None = None,
    ) -> None:
        """End every open generation (of a model, or an adapter) with an error event."""
        error = error or ShuttingDown(
            "the server is shutting down and could not wait for this answer"
        )
        self._open.fail(error, model, adapter)

    def fail_silent(self, model: ServedModel, seconds: float, error: LLMServeError) -> int:
        """End the requests that run and made no progress for so long; returns how many."""
        return self._open.fail_silent(error, model, seconds)

    @contextlib.asynccontextmanager
    async def _tokenless(
        self, request_id: str, name: str | None, seconds: float, caller: Caller
    ) -> AsyncIterator[tuple[ServedModel, Hold]]:
        """A request that generates nothing: its model, and what holds its place among the key's
        open ones."""
        arrived_at = self._clock()
        with self._counting_refusals(caller):
            self._refuse_if_draining(caller)
            check_scope(caller)
            async with self._entrance.leased(
                name, seconds, caller, loads_adapter=False
            ) as resolved:
                with self._entrance.admitted(caller, 1) as (_, shares):
                    yield resolved.model, lambda: partial(shares.take(), 0)
        name = resolved.name
        RequestRecord(self._recorder, request_id, name, caller, arrived_at).was_read()

    def _admit(
        self, resolved: Resolved, task: Task, arrived_at: float, caller: Caller, shares: Shares
    ) -> Generation:
        record = RequestRecord(self._recorder, task.request_id, resolved.name, caller, arrived_at)
        place = self._entrance.place(resolved, caller, shares)
        generation = Generation(resolved, task, place, record, self._clock)
        generation.enter(self._limits.wait_timeout_seconds)
        self._open.add(generation)
        return generation

    async def _admitted_encoding(
        self, request: EncodingRequest, caller: Caller, arrived_at: float
    ) -> Encoding:
        self._refuse_if_draining(caller)
        check_scope(caller)
        found = self._registry.encoding(
            request.model, request.purpose, lambda one: caller.may_use(one.permissions)
        )
        check_model(found, caller)
        check_encodes(found.model, request.purpose, self._registry, caller)
        async with self._entrance.leased(found.name, request.timeout_seconds, caller) as resolved:
            served = resolved.model
            check_encodes(served, request.purpose, self._registry, caller)
            deadline = arrived_at + self._entrance.seconds_for([request], caller)
            encoder = served.encoder
            self._entrance.gates.check_room(1, served, caller, deadline)
            with self._entrance.admitted(caller, 1) as (admission, shares):
                task = await encoder.prepare(
                    request, caller, deadline, lambda: partial(shares.take(), 0)
                )
                self._refuse_if_draining(caller)
                self._entrance.gates.check_room(1, served, caller, deadline)
                admission.charge(task.prompt_tokens)
                place = self._entrance.place(resolved, caller, shares)
                name = served.spec.name
                record = EncodingRecord(self._recorder, request.id, name, caller, arrived_at)
                encoding = Encoding(served, task, place, record, self._clock)
                encoding.enter(self._limits.wait_timeout_seconds)
                self._open.add(encoding)
                return encoding

    def _refuse_if_draining(self, caller: Caller) -> None:
        if self.is_draining or (self.is_retiring and caller.is_background):
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
