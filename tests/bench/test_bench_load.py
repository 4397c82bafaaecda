"""What the client makes of a server's answers."""

from __future__ import annotations

import itertools

import pytest
from bounded import run
from openai_server import OpenAIServer, event, openai_server, refusal, words

from llmserve.bench.load import Amount, Collected, Load, first_model, takes_ignore_eos
from llmserve.bench.report import Report
from llmserve.bench.target import Target
from llmserve.bench.workload import Workload
from llmserve.errors import ConfigurationError, ServerUnreachable


async def measured(
    server: OpenAIServer, workload: Workload | None = None, **amount: float
) -> Collected:
    wanted = Amount(**{"requests": 3} | amount)  # type: ignore[arg-type]
    return await Load(Target.parse(server.url), workload or Workload("m"), wanted).run()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(429, "queue_full"), "status 429 queue_full"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", "status 503"),
        (words(3, ends=False), "cut off"),
        ([], "cut off"),
        (b"\x16\x03\x01 what is this\r\n\r\n", "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cut off"),
        (
            [event({"error": {"code": "out_of_memory"}}), b"data: [DONE]\n\n"],
            "event: out_of_memory",
        ),
        ([b"data: {oops\n\n", b"data: [DONE]\n\n"], "not JSON"),
    ],
)
def test_an_answer_that_fails_is_told_by_kind(answer: bytes | list[bytes], error: str) -> None:
    async def test() -> None:
        async with openai_server(lambda body: answer) as server:
            collected = await measured(server)
        assert [a.error for a in collected.answers] == [error] * 3
        report = Report.of(collected)
        assert (report.succeeded, report.errors) == (0, {error: 3})
        assert report.ttft is None

    run(test)


def test_nobody_there_is_told() -> None:
    async def test() -> None:
        async with openai_server(lambda body: words(1)) as server:
            pass
        collected = await measured(server)
        assert {a.error for a in collected.answers} == {"connect: ConnectionRefusedError"}
        with pytest.raises(ServerUnreachable, match="cannot reach"):
            await first_model(Target.parse(server.url))

    run(test)


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def test() -> None:
        # A length that never comes.
        slow = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
        async with openai_server(lambda body: slow) as server:
            collected = await measured(server, timeout_seconds=0.05)
        assert {a.error for a in collected.answers} == {"timeout"}

    run(test)


def test_whole_answers_are_counted_as_the_server_counts() -> None:
    async def test() -> None:
        async with openai_server(lambda body: words(5)) as server:
            collected = await measured(server, requests=4, concurrency=2)
            assert server.connections == 2, "connections are used again"
            assert {body["model"] for body in server.asked} == {"m"}
        report = Report.of(collected)
        assert (report.succeeded, report.input_tokens, report.output_tokens) == (4, 28, 20)
        assert report.is_counted_by_server
        assert all(len(a.token_at) == 5 and len(a.gaps) == 4 for a in collected.answers)

    run(test)


def test_without_usage_events_are_counted_and_it_is_said() -> None:
    async def test() -> None:
        async with openai_server(lambda body: words(5, usage=False)) as server:
            report = Report.of(await measured(server))
        assert report.output_tokens == 15
        assert not report.is_counted_by_server

    run(test)


def test_chat_is_asked_in_its_own_words_and_read_too() -> None:
    async def test() -> None:
        chat = [
            event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
            event({"choices": [{"delta": {"content": "hi"}}]}),
            event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
            b"data: [DONE]\n\n",
        ]
        async with openai_server(lambda body: chat) as server:
            collected = await measured(server, Workload("m", endpoint="chat"))
            assert set(server.asked[0]["messages"][0]) == {"role", "content"}
        assert [a.output_tokens for a in collected.answers] == [1, 1, 1]

    run(test)


def test_an_open_loop_asks_whether_or_not_answers_come() -> None:
    async def test() -> None:
        async with openai_server(lambda body: words(1)) as server:
            collected = await measured(server, Workload("m", rate=200.0), requests=20)
        assert len(collected.answers) == 20
        starts = sorted(a.began_at - collected.began_at for a in collected.answers)
        planned = list(itertools.islice(Workload("m", rate=200.0).arrivals(), 20))
        assert all(start >= at for start, at in zip(starts, planned, strict=True))

    run(test)


def test_a_duration_ends_a_run() -> None:
    async def test() -> None:
        async with openai_server(lambda body: words(1)) as server:
            closed = await measured(server, requests=10**6, seconds=0.05)
            opened = await measured(server, Workload("m", rate=100.0), requests=10**6, seconds=0.05)
        assert closed.answers
        assert len(opened.answers) < 100

    run(test)


def test_the_server_is_asked_for_its_model_and_for_ignore_eos() -> None:
    async def test() -> None:
        def picky(body: dict[str, object]) -> list[bytes] | bytes:
            return refusal(400, "unknown_field") if "ignore_eos" in body else words(1)

        async with openai_server(picky) as server:
            target = Target.parse(server.url + "/v1/")
            assert await first_model(target) == "first"
            assert not await takes_ignore_eos(target, Workload("m"))
            server.script = lambda body: words(1)
            assert await takes_ignore_eos(target, Workload("m"))
            server.script = lambda body: refusal(400, "no_such_model")
            with pytest.raises(ConfigurationError, match="no_such_model"):
                await takes_ignore_eos(target, Workload("m"))

    run(test)


def test_asking_for_ignore_eos_tells_the_server_no_prompt_of_the_load() -> None:
    async def test() -> None:
        async with openai_server(lambda body: words(1)) as server:
            await takes_ignore_eos(Target.parse(server.url), Workload("m"))
            await measured(server, Workload("m"))
        probe, *asked = server.asked
        assert probe["max_tokens"] == 1
        assert probe["prompt"] not in [body["prompt"] for body in asked]

    run(test)
