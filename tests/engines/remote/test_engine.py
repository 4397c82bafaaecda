"""RemoteEngine: everything that can go wrong between two servers; then an answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from fake_upstream import Connection, FakeUpstream, hello
from remote_bench import Bench, asking, bench

from llmserve.domain import (
    Caller,
    Cancelled,
    Delta,
    Failed,
    Finish,
    FinishReason,
    SamplingFields,
    Started,
    Terminal,
    ToolCallDelta,
    Usage,
)
from llmserve.errors import (
    InvalidRequest,
    LLMServeError,
    ModelBroken,
    NotReady,
    QueueFull,
    UpstreamFailed,
    UpstreamTimeout,
)
from llmserve.observability.context import trace_headers


async def half(connection: Connection) -> None:
    connection.head()
    connection.say({"delta": {"content": "Hel"}})
    await connection.writer.drain()


async def dies_in_the_middle(connection: Connection) -> None:
    await half(connection)
    connection.drop()


async def dies_before_a_head(connection: Connection) -> None:
    connection.drop()


async def dies_after_its_head(connection: Connection) -> None:
    connection.head()
    connection.writer.write(b": accepted\n\n")
    await connection.writer.drain()
    connection.drop()


async def says_nothing(connection: Connection) -> None:
    await connection.left()


async def says_half(connection: Connection) -> None:
    await half(connection)
    await connection.left()


def refusing(status: int, error: dict[str, Any] | None = None, **headers: str) -> Any:
    async def script(connection: Connection) -> None:
        connection.refuse(status, error, **headers)

    return script


def saying(*data: bytes) -> Any:
    async def script(connection: Connection) -> None:
        connection.head()
        for piece in data:
            connection.raw(piece)

    return script


async def error_of(one: Bench) -> LLMServeError:
    terminal = await (await one.ask()).end()
    assert isinstance(terminal, Failed)
    return terminal.error


@pytest.mark.parametrize("death", [dies_before_a_head, dies_after_its_head])
def test_what_has_no_byte_yet_moves_to_another_upstream(death: Any) -> None:
    async def test() -> None:
        one, two = FakeUpstream(otherwise=death), FakeUpstream()
        async with bench(one, two) as b:
            asked = [await b.ask() for _ in range(8)]
            ends = [await each.end() for each in asked]
            assert all(isinstance(end, Finish) for end in ends)
            assert [each.text for each in asked] == ["Hello"] * 8
            assert len(two.asked) == 8
            assert len(one.asked) >= 3
            assert b.states == ["open", "up"]

    run(test)


def test_after_its_first_byte_nothing_is_sent_twice() -> None:
    async def test() -> None:
        one, two = (FakeUpstream(dies_in_the_middle) for _ in range(2))
        async with bench(one, two) as b:
            asked = await b.ask()
            end = await asked.end()
            assert isinstance(end, Failed)
            assert end.error.code == "upstream_failed"
            assert "in the middle" in end.error.message
            assert asked.text == "Hel"
            assert len(one.asked) + len(two.asked) == 1
            assert b.outcomes == ["lost"]

    run(test)


def test_where_nobody_listens_another_is_asked_and_the_first_found_again() -> None:
    async def test() -> None:
        one, two = FakeUpstream(), FakeUpstream()
        async with bench(one, two) as b:
            await one.stop()
            ends = [await (await b.ask()).end() for _ in range(8)]
            assert all(isinstance(end, Finish) for end in ends)
            assert b.states == ["down", "up"]
            assert b.outcomes.count("unreachable") == 1, "then it was left alone"
            await one.listen()
            await b.look()
            assert b.states == ["up", "up"]

    run(test)


def test_with_none_left_the_error_says_so_and_no_address() -> None:
    async def test() -> None:
        one = FakeUpstream()
        async with bench(one) as b:
            await one.stop()
            for _ in range(2):
                error = await error_of(b)
                assert error.status in (502, 503)
                assert "127.0.0.1" not in error.message
            await one.listen()
            asked = await b.ask()
            assert isinstance(await asked.end(), Finish), "it is tried before anybody looked"

    run(test)


def test_one_that_is_busy_passes_on_and_its_time_is_told_if_all_are() -> None:
    async def test() -> None:
        full = refusing(429, {"message": "full", "code": "queue_full"}, Retry_After="7")
        one, two = FakeUpstream(full, full), FakeUpstream(full)
        async with bench(one, two) as b:
            error = await error_of(b)
            assert isinstance(error, QueueFull)
            assert error.retry_after_seconds == 7
            assert b.states == ["up", "up"], "being busy is no fault"
            assert b.outcomes == ["refused", "refused"]
            assert [report.is_retry for report in b.reports] == [False, True]

    run(test)


def test_one_that_drains_is_left_alone_without_a_fault() -> None:
    async def test() -> None:
        drains = refusing(503, {"message": "shutting down", "code": "shutting_down"})
        one = FakeUpstream(otherwise=drains)
        async with bench(one) as b:
            error = await error_of(b)
            assert isinstance(error, NotReady)
            assert b.states == ["draining"]
            assert len(one.asked) == 1
            await error_of(b)
            assert len(one.asked) == 1
            await b.look()
            assert b.states == ["up"]
            one.health = (503, {"status": "draining", "models": []})
            await b.look()
            assert b.states == ["draining"]
            await one.stop()
            await b.look()
            assert b.states == ["down"], "and not up for a moment"

    run(test)


@pytest.mark.parametrize(
    ("status", "told", "kind", "words"),
    [
        (400, {"message": "bad stop", "param": "stop"}, InvalidRequest, "bad stop"),
        (422, {"message": "odd"}, InvalidRequest, "odd"),
        (401, {"message": "no key sk-secret"}, UpstreamFailed, "does not take this server's key"),
        (403, {"message": "no key sk-secret"}, UpstreamFailed, "does not take this server's key"),
        (404, {"message": "no such model"}, NotReady, "no such model"),
        (500, {"message": "oops sk-secret"}, UpstreamFailed, "answered 500: oops (the key)"),
        (504, {"message": "slow"}, UpstreamFailed, "answered 504"),
        (302, {"message": "there"}, UpstreamFailed, "answered 302"),
    ],
)
def test_a_refusal_is_told_in_our_words_and_never_with_the_key(
    status: int, told: dict[str, Any], kind: type, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_KEY", "sk-secret")

    async def test() -> None:
        one = FakeUpstream(otherwise=refusing(status, told))
        async with bench(one, key_env="FAR_KEY") as b:
            error = await error_of(b)
            assert isinstance(error, kind)
            assert words in error.message
            assert "sk-secret" not in error.message
            assert one.asked[0].headers["authorization"] == "Bearer sk-secret"
            assert len(one.asked) == 1

    run(test)


def test_a_bad_request_says_which_field_and_moves_nowhere() -> None:
    async def test() -> None:
        bad = refusing(400, {"message": "bad", "param": "stop", "code": "context_length_exceeded"})
        one, two = FakeUpstream(bad), FakeUpstream(bad)
        async with bench(one, two) as b:
            error = await error_of(b)
            assert (error.param, error.code) == ("stop", "context_length_exceeded")
            assert len(one.asked) + len(two.asked) == 1

    run(test)


@pytest.mark.parametrize(
    "data",
    [
        (b"data: {]\n\n",),
        (b"data: 7\n\n",),
        (b'data: {"choices": [{"delta": {"content": 7}}]}\n\n',),
        (b'data: {"choices": {}}\n\ndata: [DONE]\n\n',),
        (b"data: [DONE]\n\n",),
        (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: [DONE]\n\n',),
        (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',),
        (b'data: {"choices": [{"delta": {}, "finish_reason": "abort"}]}\n\ndata: [DONE]\n\n',),
        (b"data: " + b"x" * 2**20,) * 9,
    ],
)
def test_what_is_no_answer_is_one_clear_error(data: tuple[bytes, ...]) -> None:
    async def test() -> None:
        one = FakeUpstream(saying(*data))
        async with bench(one) as b:
            error = await error_of(b)
            assert isinstance(error, UpstreamFailed)
            assert len(one.asked) == 1 or b.outcomes[0] == "lost"

    run(test)


def test_an_error_in_the_middle_is_the_answers_end() -> None:
    async def test() -> None:
        told = json.dumps({"error": {"message": "out of memory", "type": "server_error"}})
        one = FakeUpstream(saying(b"data: %s\n\n" % told.encode()))
        async with bench(one) as b:
            error = await error_of(b)
            assert error.status == 500
            assert "out of memory" in error.message

    run(test)


def test_an_answer_that_is_not_streamed_is_refused() -> None:
    async def test() -> None:
        async def whole(connection: Connection) -> None:
            connection.head(kind="application/json")
            connection.raw(b"{}")

        async with bench(FakeUpstream(whole)) as b:
            assert "does not stream" in (await error_of(b)).message

    run(test)


@pytest.mark.parametrize(
    ("script", "limits", "words"),
    [
        (says_nothing, {"first_token_seconds": 0.05}, "did not begin its answer within 0.05 s"),
        (says_half, {"between_tokens_seconds": 0.05}, "silent for 0.05 s in the middle"),
    ],
)
def test_silence_has_an_end_and_is_asked_of_nobody_else(
    script: Any, limits: dict[str, float], words: str
) -> None:
    async def test() -> None:
        one, two = FakeUpstream(script), FakeUpstream(script)
        async with bench(one, two, **{"connect_seconds": 0.2} | limits) as b:
            error = await error_of(b)
            assert isinstance(error, UpstreamTimeout)
            assert words in error.message
            [connection] = one.asked + two.asked
            await connection.was_left.wait()
            assert b.outcomes == ["timeout"]

    run(test)


def test_a_slow_upstream_trips_its_breaker_and_recovers() -> None:
    async def test() -> None:
        now = 0.0
        one = FakeUpstream(says_nothing, says_nothing, says_nothing)
        async with bench(one, connect_seconds=1.0, first_token_seconds=1.0, clock=lambda: now) as b:

            async def passes() -> None:
                nonlocal now
                while True:
                    await asyncio.sleep(0.01)
                    now += 0.05

            moving = asyncio.create_task(passes())
            for _ in range(3):
                assert isinstance(await error_of(b), UpstreamTimeout)
            assert b.states == ["open"]
            error = await error_of(b)
            assert isinstance(error, NotReady)
            assert error.retry_after_seconds is not None
            assert len(one.asked) == 3
            now += 60.0
            assert isinstance(await (await b.ask()).end(), Finish)
            assert b.states == ["up"]
            moving.cancel()

    run(test)


@pytest.mark.parametrize("script", [says_nothing, says_half])
def test_a_cancel_closes_the_upstreams_connection(script: Any) -> None:
    async def test() -> None:
        one = FakeUpstream(script)
        async with bench(one) as b:
            asked = await b.ask()
            while not one.asked:
                await asyncio.sleep(0)
            if script is says_half:
                await asked.until(lambda event: isinstance(event, Delta))
            asked.job.cancel()
            assert isinstance(await asked.end(), Cancelled)
            await one.asked[0].was_left.wait()
            assert b.outcomes == ["cancelled"]
            assert b.engine.info.upstreams[0].running == 0

    run(test)


def test_one_that_was_cancelled_before_it_began_is_over() -> None:
    async def test() -> None:
        one = FakeUpstream()
        async with bench(one) as b:
            asked = await b.ask()
            asked.job.cancel()
            assert isinstance(await asked.end(), Cancelled)
            assert one.asked == []

    run(test)


def test_closing_ends_what_runs_and_takes_nothing_more() -> None:
    async def test() -> None:
        one = FakeUpstream(says_half)
        async with bench(one) as b:
            asked = await b.ask()
            await asked.until(lambda event: isinstance(event, Delta))
            await b.engine.close()
            end = await asked.end()
            assert isinstance(end, Failed)
            assert end.error.code == "shutting_down"
            with pytest.raises(RuntimeError):
                b.engine.start(asked.job)

    run(test)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models_status": 500}, "is down: it answers 500"),
        ({"models": "nonsense"}, "its list of models cannot be read"),
        ({"models": {"data": [{"id": "other", "owned_by": "vllm"}]}}, "does not serve the model"),
        ({"health": (200, {"status": "draining", "models": []})}, "it is shutting down"),
        (
            {"health": (503, {"status": "l", "models": [{"name": "m", "status": "loading"}]})},
            "the model is loading there",
        ),
    ],
)
def test_a_load_without_one_upstream_that_serves_says_why(
    change: dict[str, Any], words: str
) -> None:
    async def test() -> None:
        one = FakeUpstream()
        for name, value in change.items():
            setattr(one, name, value)
        with pytest.raises(ModelBroken) as broken:
            async with bench(one):
                pass
        assert words in broken.value.message
        assert "127.0.0.1" not in broken.value.message

    run(test)


def test_one_upstream_is_enough_and_the_others_are_told() -> None:
    async def test() -> None:
        one, two = FakeUpstream(), FakeUpstream()
        two.models = {"data": []}
        async with bench(one, two) as b:
            assert b.states == ["up", "without the model"]
            info = b.engine.info
            assert info.why == "1 of 2 upstreams take requests (llmserve)"
            [warning] = info.warnings
            assert warning.startswith("upstream 2 of 2 is without the model")
            two.models = one.models
            await b.look()
            assert b.states == ["up", "up"]

    run(test)


def test_two_late_health_checks_in_a_row_take_an_upstream_out() -> None:
    async def test() -> None:
        one = FakeUpstream(owner="vllm")
        async with bench(one) as b:
            assert one.health_asked == ["/health"]
            one.health = (500, {})
            await b.look()
            assert b.states == ["up"]
            await b.look()
            assert b.states == ["down"]
            one.health = (200, {})
            await b.look()
            assert b.states == ["up"]

    run(test)


def test_a_model_of_a_service_that_lists_none_is_taken_as_there() -> None:
    async def test() -> None:
        one = FakeUpstream()
        one.models_status, one.models = 404, {}
        async with bench(one) as b:
            assert isinstance(await (await b.ask()).end(), Finish)
        one.health = (500, {})
        with pytest.raises(ModelBroken):
            async with bench(one, health_path="/up"):
                pass

    run(test)


def test_an_operators_drain_holds_until_it_is_lifted() -> None:
    async def test() -> None:
        one, two = FakeUpstream(says_half), FakeUpstream()
        async with bench(one, two) as b:
            b.engine.drain_upstream(two.url, is_drained=True)
            asked = await b.ask()
            await asked.until(lambda event: isinstance(event, Delta))
            b.engine.drain_upstream(two.url, is_drained=False)
            b.engine.drain_upstream(one.url, is_drained=True)
            await b.look()
            assert b.states == ["draining", "up"]
            assert isinstance(await (await b.ask()).end(), Finish)
            assert len(two.asked) == 1
            assert asked.job.mailbox.terminal is None, "what it has goes on"
            asked.job.cancel()
            await asked.end()
            with pytest.raises(InvalidRequest, match="no upstream 'http://other'"):
                b.engine.drain_upstream("http://other", is_drained=True)

    run(test)


def test_the_retry_budget_ends_moves() -> None:
    async def test() -> None:
        busy = refusing(502, {"message": "bad gateway"})
        one, two = FakeUpstream(otherwise=busy), FakeUpstream(otherwise=busy)
        async with bench(one, two, retry_share=0.0) as b:
            assert isinstance(await error_of(b), UpstreamFailed)
            assert len(one.asked) + len(two.asked) == 1

    run(test)


def test_an_answer_comes_with_what_was_counted() -> None:
    async def test() -> None:
        one = FakeUpstream()
        async with bench(one) as b:
            asked = await b.ask()
            end = await asked.end()
            assert end == Finish(FinishReason.STOP, Usage(9, 2, 4))
            assert isinstance(asked.events[0], Started)
            assert asked.text == "Hello"
            assert asked.job.usage == Usage(9, 2, 4)
            [report] = b.reports
            assert report.outcome.value == "answered"
            assert report.first_token_seconds is not None
            [connection] = one.asked
            assert connection.path == "/v1/chat/completions"
            assert connection.headers["x-request-id"] == "r1"
            assert "authorization" not in connection.headers
            assert connection.body["stream_options"] == {"include_usage": True}
            assert b.engine.info.max_context == 100

    run(test)


def test_reasoning_and_calls_come_as_they_were_read() -> None:
    async def script(connection: Connection) -> None:
        connection.head()
        connection.say({"delta": {"reasoning_content": "hm"}})
        connection.say({"delta": {"reasoning": " yes"}})
        function = {"name": "f", "arguments": "{"}
        call = {"index": 0, "id": "c1", "type": "function", "function": function}
        connection.say({"delta": {"tool_calls": [call]}})
        connection.say({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}})
        connection.say({"delta": {}, "finish_reason": "tool_calls"})
        details = {"completion_tokens_details": {"reasoning_tokens": 2}}
        connection.end({"prompt_tokens": 3, "completion_tokens": 8} | details)

    async def test() -> None:
        async with bench(FakeUpstream(script)) as b:
            asked = await b.ask()
            end = await asked.end()
            assert end == Finish(FinishReason.TOOL_CALLS, Usage(3, 8, 0, 2))
            deltas = [event for event in asked.events if isinstance(event, Delta)]
            assert "".join(delta.reasoning for delta in deltas) == "hm yes"
            assert [piece for delta in deltas for piece in delta.calls] == [
                ToolCallDelta(0, "{", "c1", "f"),
                ToolCallDelta(0, "}"),
            ]

    run(test)


def test_log_probabilities_have_the_spelling_that_came_with_them() -> None:
    async def script(connection: Connection) -> None:
        connection.head()
        likely = {"token": "He", "logprob": -0.5, "bytes": [72, 101]}
        half = {"token": "\ufffd", "logprob": -1.5, "bytes": [200]}
        content = [likely | {"top_logprobs": [likely, half]}]
        connection.say({"delta": {"content": "He"}, "logprobs": {"content": content}})
        connection.say({"delta": {}, "finish_reason": "length"})
        connection.end()

    async def test() -> None:
        async with bench(FakeUpstream(script, hello)) as b:
            wanted = asking(sampling=SamplingFields(logprobs=2))
            asked = await b.ask(wanted)
            await asked.end()
            [token] = [t for e in asked.events if isinstance(e, Delta) for t in e.logprobs]
            spelled = [b.engine.spelling(i) for i, _ in token.top]
            assert [(s.text, s.utf8) for s in spelled] == [("He", b"He"), ("\ufffd", b"\xc8")]
            assert token.token_id == token.top[0][0]
            end = await (await b.ask(wanted)).end()
            assert isinstance(end, Failed), "an upstream that leaves them out"
            assert "no log probabilities" in end.error.message

    run(test)


def test_a_text_goes_to_the_route_for_texts() -> None:
    async def script(connection: Connection) -> None:
        connection.head()
        logprobs = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"b": -2, "a": -1}]}
        connection.say({"text": "a", "logprobs": logprobs})
        connection.say({"text": "", "finish_reason": "stop", "stop_reason": "END"})
        connection.end()

    async def test() -> None:
        one = FakeUpstream(script)
        async with bench(one) as b:
            asked = await b.ask(asking((1, 2, 3), sampling=SamplingFields(logprobs=1)))
            end = await asked.end()
            assert isinstance(end, Finish)
            assert end.stop_string == "END"
            assert asked.text == "a"
            assert one.asked[0].path == "/v1/completions"
            assert one.asked[0].body["prompt"] == [1, 2, 3]

    run(test)


def test_conversations_stay_where_their_beginning_is_cached() -> None:
    async def test() -> None:
        one, two = FakeUpstream(), FakeUpstream()
        async with bench(one, two) as b:
            for number in range(6):
                beginning = f"{number} " * 200
                for turn in range(3):
                    await (await b.ask(asking(beginning + "again " * 30 * turn))).end()
            by_beginning = {
                number: {c.body["prompt"][:1] for c in upstream.asked}
                for number, upstream in enumerate((one, two))
            }
            assert by_beginning[0].isdisjoint(by_beginning[1])

    run(test)


def test_what_asks_for_the_tokenizer_is_refused() -> None:
    async def test() -> None:
        async with bench(FakeUpstream()) as b:
            with pytest.raises(InvalidRequest, match="on another server"):
                await b.engine.read(str, size=1, caller=Caller(), hold=lambda: lambda: None)
            report = await b.engine.warm(["Hello"], ["You are"])
            assert len(report.prompt_seconds) == 1
            assert report.prefix_tokens == (0,)

    run(test)


def test_every_job_ends_exactly_once_whatever_its_upstreams_do() -> None:
    async def test() -> None:
        scripts = [dies_before_a_head, hello, dies_in_the_middle, refusing(503), refusing(429),
                   dies_after_its_head, saying(b"data: {]\n\n"), hello, refusing(500)]  # fmt: skip
        one, two = FakeUpstream(*scripts), FakeUpstream(*reversed(scripts))
        async with bench(one, two) as b:
            asked = [await b.ask() for _ in range(24)]
            asked[3].job.cancel()
            ends = await asyncio.gather(*(one.end() for one in asked))
            assert all(isinstance(end, Terminal) for end in ends)
            said = [c for upstream in (one, two) for c in upstream.asked if c.has_said]
            assert len(said) <= 24

    run(test)


def test_a_key_that_is_changed_in_its_file_is_used_and_a_bad_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "key"

    async def test() -> None:
        one = FakeUpstream()
        with pytest.raises(ModelBroken, match="key_file names cannot be read"):
            async with bench(one, key_file=file):
                pass
        file.write_text(" \n")
        with pytest.raises(ModelBroken, match="no key for the upstreams where key_file says"):
            async with bench(one, key_file=file):
                pass
        file.write_text("first\n")
        async with bench(one, key_file=file) as b:
            for content in ("second", "", None):
                await (await b.ask()).end()
                if content is None:
                    file.unlink()
                else:
                    file.write_text(content)
                await b.look()
            await (await b.ask()).end()
            keys = [connection.headers["authorization"] for connection in one.asked]
            assert keys == [f"Bearer {key}" for key in ("first", "second", "second", "second")]

    run(test)


def test_a_trace_goes_on() -> None:
    async def test() -> None:
        one = FakeUpstream()
        async with bench(one) as b:
            trace_headers.set({"traceparent": "00-1-2-01", "tracestate": "a=b"})
            await (await b.ask()).end()
            headers = one.asked[0].headers
            assert (headers["traceparent"], headers["tracestate"]) == ("00-1-2-01", "a=b")

    run(test)


def test_one_that_was_drained_before_this_worker_began_stays_so() -> None:
    async def test() -> None:
        one, two = FakeUpstream(), FakeUpstream()
        async with bench(one, two, drained=frozenset({0})) as b:
            assert b.states == ["draining", "up"]
            await (await b.ask()).end()
            assert one.asked == []

    run(test)
