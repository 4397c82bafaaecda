"""What happens before a prompt is tokens: who is refused, how long it may take, who pays for it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from bounded import run
from manual_clock import ManualClock
from service.held_tokenizer import house, key

from llmserve.domain import Caller, GenerationRequest, Scope
from llmserve.errors import (
    DeadlineUnreachable,
    Forbidden,
    InvalidRequest,
    LLMServeError,
    ModelUnloaded,
    PromptTooLong,
    QueueFull,
    RateLimited,
    ShuttingDown,
    WaitTimeout,
)

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.mark.parametrize(
    ("caller", "first"),
    [
        (key(requests=1), "hi"),
        (key(tokens=2), "hi"),
        (key(requests=1, tokens=100, concurrency=1), "hi"),
    ],
)
def test_a_key_over_its_limit_is_told_before_its_prompt_is_read(caller: Caller, first: str) -> None:
    async def test() -> None:
        async with house() as h:
            await h.ask(first, caller)
            for _ in range(3):
                with pytest.raises(RateLimited):
                    await h.ask("again", caller)
            assert h.tokenizer.asked == [first]

    run(test)


def test_a_prompt_that_is_being_read_counts_as_open() -> None:
    async def test() -> None:
        async with house() as h:
            caller = key(requests=5, concurrency=1)
            held = await h.hold(caller=caller)
            with pytest.raises(RateLimited, match="open requests"):
                await h.ask(caller=caller)
            assert h.left(caller) == (4, None)
            await h.let_go()
            await held
            await h.ask(caller=caller)
            assert h.left(caller) == (3, None)

    run(test)


def test_a_full_queue_refuses_before_the_prompt_is_read() -> None:
    async def test() -> None:
        async with house(capacity=1, max_waiting=0) as h:
            async with h.service.open(GenerationRequest("r", "hi"), Caller()):
                with pytest.raises(QueueFull):
                    await h.ask("again")
            assert h.tokenizer.asked == ["hi"]

    run(test)


def test_a_wait_that_would_be_too_long_is_refused_before_the_prompt_is_read() -> None:
    async def test() -> None:
        clock = ManualClock()
        async with house(clock=clock) as h:
            async with h.service.open(GenerationRequest("r", "hi"), Caller()):
                clock.now += 30
                h.engines["fake"].finish_all()
            async with h.service.open(GenerationRequest("r", "ho"), Caller()):
                with pytest.raises(DeadlineUnreachable):
                    await h.ask("again", timeout_seconds=5)
            assert h.tokenizer.asked == ["hi", "ho"]

    run(test)


def test_the_deadline_holds_and_the_place_of_the_key_is_held_by_the_thread() -> None:
    async def test() -> None:
        async with house() as h:
            caller = key(requests=5, concurrency=1)
            held = await h.hold(caller=caller, seconds=0.02)
            with pytest.raises(WaitTimeout, match="not made into tokens within"):
                await held
            with pytest.raises(RateLimited, match="open requests"):
                await h.ask(caller=caller)
            await h.let_go()
            await h.ask(caller=caller)
            assert h.left(caller) == (3, None), "both were work"

    run(test)


def test_a_time_too_short_for_anything_is_no_fault_of_the_server() -> None:
    async def test() -> None:
        async with house() as h:
            await h.ask(timeout_seconds=5e-324)

    run(test)


def test_the_deadline_holds_in_the_queue_before_the_threads() -> None:
    async def test() -> None:
        async with house() as h:
            first = await h.hold("wait 1")
            second = await h.hold("wait 2")
            with pytest.raises(WaitTimeout):
                await h.ask("third", timeout_seconds=0.02)
            await h.let_go()
            await asyncio.gather(first, second)
            assert "third" not in h.tokenizer.asked, "nobody waits for it any more"

    run(test)


def test_time_that_a_prompt_took_is_gone_from_the_deadline() -> None:
    async def test() -> None:
        clock = ManualClock()
        async with house(clock=clock) as h:
            held = await h.hold(seconds=10)
            clock.now += 4
            await h.let_go()
            await held
            assert h.engines["fake"].started[0].task.deadline == clock() + 6

    run(test)


def test_who_hangs_up_meanwhile_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with house() as h:
            caller = key(requests=5, tokens=50, concurrency=2)
            held = [await h.hold(f"wait {i}", caller) for i in range(2)]
            for task in held:
                task.cancel()
            await asyncio.wait(held)
            await h.let_go()
            assert h.left(caller) == (3, 50)
            await h.ask(caller=caller)
            assert len(h.engines["fake"].started) == 1

    run(test)


@pytest.mark.parametrize("prompt", ["", "\0", "x" * 20, "endless"])
def test_a_prompt_that_cannot_be_served_costs_a_request_and_no_tokens(prompt: str) -> None:
    async def test() -> None:
        async with house() as h:
            caller = key(requests=5, tokens=50, concurrency=1)
            for count in (1, 2):
                with pytest.raises(InvalidRequest):
                    await h.ask(prompt, caller)
                assert h.left(caller) == (5 - count, 50)

    run(test)


def test_what_we_refuse_after_all_costs_nothing() -> None:
    async def test() -> None:
        async with house(capacity=3, max_waiting=0) as h:
            caller = key(requests=5, tokens=50, concurrency=5)
            held = await h.hold(caller=caller)
            async with h.service.open_all([GenerationRequest("r", "hi")] * 3, Caller()):
                h.tokenizer.may_end.set()
                with pytest.raises(QueueFull):
                    await held
                h.engines["fake"].finish_all()
            assert h.left(caller) == (5, 50)
            await h.ask("0123456789", caller)
            with pytest.raises(RateLimited, match="tokens per minute"):
                async with h.service.open_all([GenerationRequest("r", "x" * 15)] * 3, caller):
                    pass
            assert h.left(caller) == (4, 40)
            with pytest.raises(InvalidRequest, match="split it"):
                await h.service.open_all([GenerationRequest("r", "x")] * 6, caller).__aenter__()
            assert h.left(caller) == (4, 40)

    run(test)


def test_several_requests_are_charged_once_each_and_their_prompts_as_often() -> None:
    async def test() -> None:
        async with house(capacity=3) as h:
            caller = key(requests=9, tokens=50, concurrency=3)
            requests = [GenerationRequest("r", prompt) for prompt in ("abc", "de", "abc")]
            async with h.service.open_all(requests, caller):
                assert h.left(caller) == (6, 42)
                assert h.tokenizer.asked == ["abc", "de"]
                with pytest.raises(RateLimited, match="open requests"):
                    await h.ask(caller=caller)
                h.engines["fake"].finish_all()
            assert h.left(caller) == (6, 42)

    run(test)


def test_a_text_that_is_surely_too_long_is_told_in_the_usual_words() -> None:
    async def test() -> None:
        async with house() as h:
            with pytest.raises(PromptTooLong) as refused:
                await h.ask("endless")
            numbers = re.match(
                r"This model's maximum context length is (\d+) tokens\. However, you requested "
                r"(\d+) tokens \((\d+) in the messages, (\d+) in the completion\)\. Please reduce "
                r"the length of the messages or completion\.",
                refused.value.message,
            )
            assert numbers is not None
            assert numbers.groups() == ("20", "1200001", "1200000", "1")
            assert refused.value.message.endswith("it is so long that it has 1200000 or more)")

    run(test)


def test_a_template_that_loops_stops_nobody_else() -> None:
    async def test() -> None:
        async with house() as h:
            held = [asyncio.create_task(h.ask(f"wait {i}")) for i in range(50)]
            while not h.tokenizer.begun.is_set():
                await asyncio.sleep(0.001)
            await h.ask(model="other")
            assert await asyncio.to_thread(lambda: "gunzip, /metrics") == "gunzip, /metrics"
            for task in held:
                task.cancel()
            await asyncio.wait(held)

    run(test)


def test_a_drain_waits_for_no_prompt() -> None:
    async def test() -> None:
        async with house() as h:
            held = await h.hold()
            await h.service.drain(1)
            with pytest.raises(ShuttingDown):
                await held

    run(test)


def test_a_model_that_is_unloaded_meanwhile_says_so() -> None:
    async def test() -> None:
        async with house() as h:
            held = await h.hold()
            model = h.registry.find("fake")
            await h.loader.unload(model, h.service.cut_short, 0.0)
            with pytest.raises(ModelUnloaded):
                await held
            await h.loader.load(model)
            await h.let_go()
            await h.ask()

    run(test)


def test_an_engine_that_refuses_a_ticket_gets_its_share_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object, **fields: object) -> None:
        raise QueueFull("a ticket was taken between two lines")

    async def test() -> None:
        async with house() as h:
            caller = key(requests=5, tokens=50, concurrency=2)
            gate = h.service._entrance.gates.of(h.registry.find("fake"))
            monkeypatch.setattr(gate, "enter", refuse)
            with pytest.raises(QueueFull):
                await h.ask("abc", caller)
            assert h.left(caller)[0] == 5

    run(test)


def test_errors_of_a_tokenizer_are_those_of_the_request() -> None:
    async def test() -> None:
        async with house() as h:
            h.engines["fake"].info = replace(h.engines["fake"].info, max_context=3)
            with pytest.raises(LLMServeError):
                await h.ask("abc")

    run(test)


@pytest.mark.parametrize("prompt", ["hi", "h" * 30], ids=["short", "too long for an answer"])
def test_to_count_tokens_is_a_request_without_tokens(prompt: str) -> None:
    async def test() -> None:
        async with house() as h:
            caller = key(requests=5, tokens=100)
            counted = await h.service.count(GenerationRequest("r", prompt), caller)
            assert counted == len(prompt)
            assert h.left(caller) == (4, 100)
            assert h.engines["fake"].started == []

    run(test)


def test_what_cannot_be_counted_is_refused() -> None:
    async def test() -> None:
        async with house() as h:
            asked = GenerationRequest("r", "endless")
            with pytest.raises(PromptTooLong, match="1200000 or more"):
                await h.service.count(asked, Caller())
            with pytest.raises(Forbidden, match="may not generate"):
                await h.service.count(asked, Caller(scopes=frozenset({Scope.METRICS})))
            h.service.begin_drain()
            with pytest.raises(ShuttingDown):
                await h.service.count(asked, Caller())
            assert h.tokenizer.asked == ["endless"]

    run(test)
