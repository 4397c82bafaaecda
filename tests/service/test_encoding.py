"""Requests to encode on their way through the service: ways out first."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from bounded import run
from fake_encoder import FakeEncoder
from fake_engine import FakeEngine
from manual_clock import ManualClock

from llmserve.admission.limits import Limiter
from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    CallerLimits,
    EncodingAnswer,
    EncodingPurpose,
    EncodingRequest,
    GenerationRequest,
    ModelSpec,
    Scope,
)
from llmserve.engines.engine import Engine
from llmserve.errors import (
    Displaced,
    Forbidden,
    GenerationFailed,
    InvalidRequest,
    LLMServeError,
    ModelNotFound,
    QueueFull,
    RateLimited,
    ShuttingDown,
    WaitTimeout,
)
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Limits, Recorder, Service
from llmserve.service.reading import Reading

pytestmark = pytest.mark.usefixtures("no_thread_left")

ANN = Caller("ann")


@dataclass
class House:
    service: Service
    registry: Registry
    encoder: FakeEncoder
    metrics: Metrics

    def ask(
        self, *inputs: str, caller: Caller = ANN, **fields: Any
    ) -> asyncio.Task[EncodingAnswer]:
        request = EncodingRequest(
            id="r",
            inputs=inputs or ("hello",),
            **{"purpose": EncodingPurpose.EMBEDDING, "model": "enc"} | fields,
        )
        return asyncio.create_task(self.service.encode(request, caller))

    async def running(self, count: int) -> None:
        while len(self.encoder.running) != count:
            await asyncio.sleep(0)

    async def waiting(self, count: int) -> None:
        while self.service.load(self.registry.find("enc"))[1] != count:
            await asyncio.sleep(0)

    def sample(self, name: str) -> float:
        lines = self.metrics.render().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


@contextlib.asynccontextmanager
async def house(
    capacity: int = 1,
    max_waiting: int = 2,
    wait: float = 60.0,
    limiter: Limiter | None = None,
    clock: Callable[[], float] = awake_clock,
    *,
    any_name: bool = False,
) -> AsyncIterator[House]:
    encoder = FakeEncoder(capacity, clock=clock)
    engines: dict[str, Engine] = {"fake": FakeEngine(clock=clock), "enc": encoder}
    registry = Registry([ModelSpec(name) for name in engines], serves_any_name=any_name)
    loader = Loader(registry, lambda spec: engines[spec.name])
    metrics = Metrics()
    service = Service(
        registry,
        loader,
        Limits(max_waiting, wait, 60.0),
        Recorder(metrics, clock=clock),
        limiter=limiter,
        clock=clock,
    )
    loader.start()
    await loader.loaded()
    yield House(service, registry, encoder, metrics)
    encoder.finish_all()
    for model in registry.models:
        assert service.load(model) == service.background_load(model) == (0, 0)
        assert model.open_leases == 0
    assert not service.has_open
    await service.drain(1)
    await loader.close()


async def fails(task: asyncio.Task[EncodingAnswer], kind: type[LLMServeError], says: str) -> None:
    with pytest.raises(kind, match=says):
        await task


def test_who_is_cancelled_while_waiting_gives_the_turn_away() -> None:
    async def test() -> None:
        async with house() as h:
            first, second, third = h.ask("a"), h.ask("bb"), h.ask("ccc")
            await h.waiting(2)
            second.cancel()
            await asyncio.wait([second])
            assert h.service.load(h.registry.find("enc")) == (1, 1)
            h.encoder.finish(h.encoder.running[0])
            await h.running(1)
            assert h.encoder.running[0].task.tokens == (3,)
            h.encoder.finish(h.encoder.running[0])
            await asyncio.gather(first, third)
            assert h.sample("llmserve_request_cancelled_total") == 1

    run(test)


def test_who_is_cancelled_in_mid_work_holds_the_place_until_the_engine_lets_go() -> None:
    async def test() -> None:
        async with house() as h:
            task = h.ask()
            await h.running(1)
            task.cancel()
            await asyncio.wait([task])
            [job] = h.encoder.running
            assert job.is_cancelled
            assert h.service.load(h.registry.find("enc")) == (1, 0)
            h.encoder.finish(job)
            assert h.service.load(h.registry.find("enc")) == (0, 0)
            assert h.sample("llmserve_cancel_latency_seconds_count") == 1

    run(test)


def test_a_full_queue_refuses() -> None:
    async def test() -> None:
        async with house(max_waiting=1) as h:
            tasks = [h.ask(), h.ask()]
            await h.waiting(1)
            with pytest.raises(QueueFull):
                await h.ask()
            h.encoder.finish(h.encoder.running[0])
            await h.running(1)
            h.encoder.finish_all()
            await asyncio.gather(*tasks)
            assert h.sample("llmserve_requests_rejected_total") == 1

    run(test)


def test_the_deadline_ends_what_waits_and_what_runs() -> None:
    async def test() -> None:
        async with house() as h:
            running = h.ask(timeout_seconds=0.05)
            await h.running(1)
            waiting = h.ask(timeout_seconds=0.05)
            await fails(running, WaitTimeout, "not encoded within")
            assert h.encoder.running[0].is_cancelled
            await fails(waiting, WaitTimeout, "not encoded within")
            assert h.sample("llmserve_request_failure_total") == 2

    run(test)


def test_nobody_waits_for_longer_than_the_operator_allows() -> None:
    async def test() -> None:
        async with house(wait=0.05) as h:
            first, second = h.ask(), h.ask()
            await fails(second, WaitTimeout, "no slot became free")
            h.encoder.finish_all()
            await first

    run(test)


def test_a_drain_lets_finish_what_runs_and_refuses_others() -> None:
    async def test() -> None:
        async with house() as h:
            task = h.ask()
            await h.running(1)
            drain = asyncio.create_task(h.service.drain(30))
            await asyncio.sleep(0)
            await fails(h.ask(), ShuttingDown, "takes no new work")
            assert not drain.done()
            h.encoder.finish_all()
            assert (await task).tokens == (5,)
            await drain

    run(test)


def test_a_drain_cuts_short_what_does_not_end() -> None:
    async def test() -> None:
        async with house() as h:
            task = h.ask()
            await h.running(1)
            drain = asyncio.create_task(h.service.drain(0.01))
            await fails(task, ShuttingDown, "could not wait")
            await drain

    run(test)


def test_what_fails_in_the_engine_is_told_and_counted() -> None:
    async def test() -> None:
        async with house() as h:
            task = h.ask()
            await h.running(1)
            h.encoder.finish(h.encoder.running[0], GenerationFailed("broken"))
            await fails(task, GenerationFailed, "broken")
            assert h.sample("llmserve_request_failure_total") == 1
            assert h.sample("llmserve_encoding_request_seconds_count") == 0

    run(test)


def test_silence_is_failed_by_the_watchdog_s_call() -> None:
    async def test() -> None:
        async with house() as h:
            task = h.ask()
            await h.running(1)
            model = h.registry.find("enc")
            assert h.service.fail_silent(model, 3600, GenerationFailed("silent")) == 0
            h.encoder.running[0].last_step_at = -1e9
            assert h.service.fail_silent(model, 3600, GenerationFailed("silent")) == 1
            await fails(task, GenerationFailed, "silent")

    run(test)


def test_the_answer_says_how_long_it_waited() -> None:
    clock = ManualClock()

    async def test() -> None:
        async with house(clock=clock) as h:
            first = h.ask()
            await h.running(1)
            second = h.ask()
            await h.waiting(1)
            clock.now += 3.0
            h.encoder.finish_all()
            assert (await first).queue_seconds == 0.0
            await h.running(1)
            clock.now += 5.0
            h.encoder.finish_all()
            assert (await second).queue_seconds == 3.0

    run(test)


def test_a_chat_is_not_for_it_and_an_embedding_not_for_a_chat_model() -> None:
    async def test() -> None:
        async with house() as h:
            await fails(h.ask(model="fake"), InvalidRequest, "does not embed.*completions")
            with pytest.raises(InvalidRequest, match=r"does not generate text.*embeddings"):
                async with h.service.open(GenerationRequest("r", "hi", model="enc"), ANN):
                    raise AssertionError("it was let in")
            await fails(
                h.ask(purpose=EncodingPurpose.CLASSIFICATION), InvalidRequest, "does not classify"
            )

    run(test)


def test_without_a_name_the_first_model_that_does_it_answers() -> None:
    async def test() -> None:
        async with house(capacity=4) as h:
            h.encoder.answers_at_once = True
            assert (await h.ask(model=None)).tokens == (5,)
            score = EncodingPurpose.SCORE
            await fails(h.ask(model=None, purpose=score), InvalidRequest, "no model .*score")
            for_chats = Caller("chats", models=frozenset({"fake"}))
            await fails(h.ask(model=None, caller=for_chats), InvalidRequest, "no model")
            await fails(h.ask(model="ada"), ModelNotFound, "ada")
        async with house(any_name=True) as h:
            h.encoder.answers_at_once = True
            assert (await h.ask(model="ada")).tokens == (5,)

    run(test)


def test_keys_are_for_models_and_for_generating() -> None:
    async def test() -> None:
        async with house() as h:
            for caller in (
                Caller("ann", models=frozenset({"fake"})),
                Caller("bob", scopes=frozenset({Scope.METRICS})),
            ):
                with pytest.raises(Forbidden):
                    await h.ask(caller=caller)

    run(test)


def test_tokens_are_charged_to_the_key() -> None:
    async def test() -> None:
        limiter = Limiter(None)
        caller = Caller("ann", limits=CallerLimits(tokens_per_minute=10, concurrency=1))
        async with house(limiter=limiter) as h:
            h.encoder.answers_at_once = True
            await h.ask("sixsix", caller=caller)
            with pytest.raises(RateLimited, match="tokens"):
                await h.ask("sixsix", caller=caller)
            with pytest.raises(InvalidRequest, match="11 tokens"):
                await h.ask("eleven byte", caller=caller)
            quota = limiter.quota(caller)
            assert quota is not None
            assert quota.tokens is not None
            assert 4 <= quota.tokens.remaining < 6
            assert h.sample("llmserve_key_tokens_total") == 6

    run(test)


def test_its_tokenizer_is_read_and_its_series_are_its_own() -> None:
    async def test() -> None:
        async with house() as h:
            h.encoder.answers_at_once = True
            reading = Reading("r", "enc", lambda tokenizer: tokenizer.encode("hi"), 2)
            model, ids = await h.service.read(reading, ANN)
            assert (model.spec.name, ids) == ("enc", [104, 105])
            answer = await h.ask("a", "bb")
            assert [list(v) for v in answer.vectors] == [[1.0, 1.0], [2.0, 2.0]]
            assert h.sample("llmserve_encoding_request_seconds_count") == 1
            assert h.sample("llmserve_request_success_total") == 1
            assert h.sample("llmserve_e2e_request_latency_seconds_count") == 0
            assert h.sample("llmserve_prompt_tokens_total") == 0

    run(test)


def test_background_work_is_counted_apart_and_ended_when_the_worker_goes() -> None:
    async def test() -> None:
        async with house() as h:
            background = Caller("batches", is_background=True)
            task = h.ask(caller=background)
            await h.running(1)
            model = h.registry.find("enc")
            assert (h.service.load(model), h.service.background_load(model)) == ((0, 0), (1, 0))
            h.service.begin_retirement()
            await fails(task, Displaced, "send it again")
            await fails(h.ask(caller=background), ShuttingDown, "takes no new work")
            h.encoder.finish_all()
            h.encoder.answers_at_once = True
            assert (await h.ask()).tokens == (5,)
            assert h.sample("llmserve_background_requests_displaced_total") == 1

    run(test)


def test_a_drain_ends_texts_that_are_not_tokens_yet() -> None:
    async def test() -> None:
        async with house() as h:
            may_go = threading.Event()
            plain = h.encoder.tokenizer.encode
            h.encoder.tokenizer.encode = lambda *given: may_go.wait(20) and plain(*given)  # type: ignore[method-assign]
            task = h.ask()
            while h.encoder.prompts.seconds_running is None:
                await asyncio.sleep(0)
            h.service.begin_drain()
            await fails(task, ShuttingDown, "takes no new work")
            may_go.set()
            while h.encoder.prompts.seconds_running is not None:
                await asyncio.sleep(0)

    run(test)
