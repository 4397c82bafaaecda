"""The bridge: what `put`, `end` and `fail` become on the other side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    SamplingParams,
    Started,
    Terminal,
    Usage,
)
from llmserve.engines.bridge import StopStringMatched, TokenBridge
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import TokenTask
from llmserve.errors import GenerationFailed
from llmserve.text.tokenizer import Tokenizer

EOS = 2
PLAIN = SamplingParams()


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer(AutoTokenizer.from_pretrained(tiny_model))


class Clock:
    """Moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def collect(
    tokenizer: Tokenizer,
    feed: Callable[[TokenBridge, Job, Clock], None],
    sampling: SamplingParams = PLAIN,
    max_tokens: int = 100,
    deadline: float | None = None,
) -> tuple[list[Event], Job]:
    """The events of one job whose worker does `feed`."""

    async def run() -> tuple[list[Event], Job]:
        task = TokenTask(
            request_id="r",
            prompt_ids=(5, 6),
            sampling=sampling,
            max_tokens=max_tokens,
            deadline=deadline,
        )
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=lambda: None)
        clock = Clock()
        bridge = TokenBridge(job, tokenizer, (EOS,), clock)
        bridge.start()
        bridge.put(torch.tensor([[5, 6]]))
        await asyncio.to_thread(feed, bridge, job, clock)
        async with asyncio.timeout(10):
            events = [await job.mailbox.next()]
            while not isinstance(events[-1], Terminal):
                events.append(await job.mailbox.next())
            return events, job

    return asyncio.run(run())


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def say(bridge: TokenBridge, ids: list[int]) -> None:
    for token_id in ids:
        bridge.put(torch.tensor([token_id]))


def test_a_failure_is_the_last_event_and_keeps_the_usage(tokenizer: Tokenizer) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        say(bridge, [300])
        bridge.fail(GenerationFailed("boom"))
        bridge.end()

    events, _ = collect(tokenizer, feed)
    assert isinstance(events[-1], Failed)
    assert events[-1].usage == Usage(2, 1)
    assert sum(isinstance(event, Failed | Finish | Cancelled) for event in events) == 1


def test_a_cancel_is_seen_at_the_next_token_and_the_rest_is_waste(tokenizer: Tokenizer) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        say(bridge, [300])
        assert not bridge.is_over(300)
        job.cancel()
        assert bridge.is_over(300)
        say(bridge, [301])
        bridge.end()

    events, job = collect(tokenizer, feed)
    assert events[-1] == Cancelled(Usage(2, 2))
    assert job.wasted_tokens == 1


def test_the_deadline_is_a_finish_with_what_there_is(tokenizer: Tokenizer) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        say(bridge, tokenizer.encode("hel"))
        assert not bridge.is_over(300)
        clock.now = 9.0
        assert bridge.is_over(300)
        bridge.end()

    events, job = collect(tokenizer, feed, SamplingParams(stop=("hello",)), deadline=9.0)
    assert text_of(events) == "hel", "held back for a stop string that did not come"
    assert events[-1] == Finish(FinishReason.TIMEOUT, Usage(2, job.completion_tokens))


def test_a_stop_string_over_tokens_unwinds_the_worker(tokenizer: Tokenizer) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        with pytest.raises(StopStringMatched):
            say(bridge, tokenizer.encode("one two three four"))

    events, job = collect(tokenizer, feed, SamplingParams(stop=("o thr",)))
    assert text_of(events) == "one tw"
    assert events[-1] == Finish(FinishReason.STOP, Usage(2, job.completion_tokens), "o thr")


def test_stop_strings_wait_for_min_tokens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a b a b a b")

    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        with pytest.raises(StopStringMatched):
            say(bridge, ids)

    events, job = collect(tokenizer, feed, SamplingParams(stop=("b",), min_tokens=2))
    assert job.completion_tokens > 2
    assert text_of(events).startswith("a b")


def test_the_end_token_is_counted_and_has_no_text(tokenizer: Tokenizer) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        assert bridge.is_over(EOS)
        say(bridge, [*tokenizer.encode("hi"), EOS])
        bridge.end()

    events, _ = collect(tokenizer, feed)
    assert text_of(events) == "hi"
    assert events[-1] == Finish(FinishReason.STOP, Usage(2, len(tokenizer.encode("hi")) + 1))


def test_ignore_eos_goes_on_and_length_ends_it_in_mid_character(tokenizer: Tokenizer) -> None:
    ids = [EOS, *tokenizer.encode("hi"), EOS, *tokenizer.encode("😀")[:-1]]

    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        assert not bridge.is_over(EOS)
        say(bridge, ids)
        bridge.end()

    events, _ = collect(tokenizer, feed, SamplingParams(ignore_eos=True), max_tokens=len(ids))
    assert text_of(events) == "hi\ufffd" == tokenizer.decode(ids)
    assert events[-1] == Finish(FinishReason.LENGTH, Usage(2, len(ids)))


def test_events_are_in_order_and_intervals_are_between_tokens(tokenizer: Tokenizer) -> None:
    intervals: list[float] = []

    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        job.on_interval = intervals.append
        for token_id in (300, 301, 302):
            clock.now += 2.0
            say(bridge, [token_id])
        bridge.end()

    events, job = collect(tokenizer, feed)
    assert isinstance(events[0], Started)
    assert intervals == [2.0, 2.0]
    assert (job.first_token_at, job.last_step_at) == (2.0, 6.0)


@settings(max_examples=60, deadline=None)
@given(text=st.text("one tw中😀", max_size=20), stop=st.text("one tw中", min_size=1, max_size=4))
def test_the_text_ends_before_the_stop_string_or_where_the_model_ends_it(
    tokenizer: Tokenizer, text: str, stop: str
) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        with contextlib.suppress(StopStringMatched):
            say(bridge, [*tokenizer.encode(text), EOS])
        bridge.end()  # after a match it adds nothing

    events, job = collect(tokenizer, feed, SamplingParams(stop=(stop,)))
    assert text_of(events) == text.partition(stop)[0]
    matched = stop if stop in text else None
    assert events[-1] == Finish(FinishReason.STOP, Usage(2, job.completion_tokens), matched)


def test_ignore_eos_is_about_the_models_own_ends(tokenizer: Tokenizer) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        assert not bridge.is_over(EOS)
        assert bridge.is_over(301)
        say(bridge, [300, EOS, 301])
        bridge.end()

    events, _ = collect(tokenizer, feed, SamplingParams(ignore_eos=True, stop_token_ids=(301,)))
    assert text_of(events) == tokenizer.decode([300])
    assert events[-1] == Finish(FinishReason.STOP, Usage(2, 3), stop_token=301)


def test_an_end_that_the_request_names_is_told_and_the_models_own_is_not(
    tokenizer: Tokenizer,
) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        say(bridge, [EOS])
        bridge.end()

    for named, told in (((EOS,), EOS), ((301,), None)):
        events, _ = collect(tokenizer, feed, SamplingParams(stop_token_ids=named))
        assert events[-1] == Finish(FinishReason.STOP, Usage(2, 1), stop_token=told)


def test_an_end_that_is_included_is_shown_if_special_tokens_are(tokenizer: Tokenizer) -> None:
    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        say(bridge, [*tokenizer.encode("hi"), EOS])
        bridge.end()

    name = tokenizer.hf.convert_ids_to_tokens(EOS)
    for is_skipping, text in ((True, "hi"), (False, "hi" + name)):
        sampling = SamplingParams(includes_stop=True, skips_special_tokens=is_skipping)
        events, _ = collect(tokenizer, feed, sampling)
        assert text_of(events) == text
        told = [i for event in events if isinstance(event, Delta) for i in event.token_ids]
        assert told[-1] == EOS
        assert isinstance(events[-1], Finish)
        assert events[-1].reason is FinishReason.STOP


def test_a_stop_string_inside_an_included_stop_token_is_what_ended_it(
    tokenizer: Tokenizer,
) -> None:
    *ids, last = tokenizer.encode("a b")

    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        say(bridge, ids)
        with pytest.raises(StopStringMatched):
            say(bridge, [last])

    sampling = SamplingParams(stop=("b",), stop_token_ids=(last,), includes_stop=True)
    events, job = collect(tokenizer, feed, sampling)
    assert text_of(events) == "a b"
    assert events[-1] == Finish(FinishReason.STOP, job.usage, "b")


def test_a_stop_string_that_is_complete_only_at_the_end_is_kept_too(tokenizer: Tokenizer) -> None:
    half = tokenizer.encode("😀")[:-1]

    def feed(bridge: TokenBridge, job: Job, clock: Clock) -> None:
        say(bridge, [*tokenizer.encode("hi"), *half])
        bridge.end()

    for is_kept, text in ((False, "hi"), (True, "hi\ufffd")):
        sampling = SamplingParams(stop=("\ufffd",), includes_stop=is_kept)
        events, _ = collect(tokenizer, feed, sampling)
        assert text_of(events) == text


def test_of_special_tokens_only_those_that_the_parser_reads_are_shown(
    tokenizer: Tokenizer,
) -> None:
    async def run(sampling: SamplingParams) -> str:
        task = TokenTask(
            request_id="r",
            prompt_ids=(5, 6),
            sampling=sampling,
            max_tokens=9,
            shown_tokens=frozenset({1}),
        )
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=lambda: None)
        bridge = TokenBridge(job, tokenizer, (), Clock())
        for token_id in (1, EOS):
            bridge.accept(token_id)
        bridge.end()
        event = await job.mailbox.next()
        assert isinstance(event, Delta)
        return event.text

    names = tokenizer.hf.convert_ids_to_tokens([1, EOS])
    assert asyncio.run(run(PLAIN)) == names[0]
    assert asyncio.run(run(SamplingParams(skips_special_tokens=False))) == "".join(names)
