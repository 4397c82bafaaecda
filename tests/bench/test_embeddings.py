"""Embeddings as a load: what is sent, and what a server's answers are taken for."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from bounded import run
from openai_server import embeddings, openai_server, refusal, whole

from llmserve.bench.embedding_report import EmbeddingReport
from llmserve.bench.embeddings import EmbeddingWorkload, TimedEmbeddings
from llmserve.bench.load import Amount, Collected, Load, first_model
from llmserve.bench.target import Target
from llmserve.bench.workload import FIRST_TOKEN_ID


def inputs(workload: EmbeddingWorkload, count: int = 50) -> list[Any]:
    bodies = (orjson.loads(body) for body in itertools.islice(workload.bodies(), count))
    return list(itertools.chain.from_iterable(body["input"] for body in bodies))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(429, "queue_full"), "status 429 queue_full"),
        (whole(b"no"), "not JSON"),
        (whole(b"[]"), "not a list of embeddings"),
        (whole(b'{"data": 1}'), "not a list of embeddings"),
        (whole(b'{"data": [{}, {}]}'), "not a list of embeddings"),
        (whole(b'{"data": [{"embedding": [1.0]}]}'), "not an embedding for each input"),
        (
            whole(b'{"data": [{"embedding": [1.0]}, {"embedding": []}]}'),
            "not an embedding for each input",
        ),
        (
            whole(b'{"data": [{"embedding": "AA"}, {"embedding": "AA"}], "usage": "much"}'),
            "not a list of embeddings",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cut off"),
    ],
)
def test_an_answer_that_is_no_embeddings_is_told_by_kind(answer: bytes, error: str) -> None:
    async def test() -> None:
        async with openai_server(lambda body: answer) as server:
            load = Load(
                Target.parse(server.url), EmbeddingWorkload("m", inputs=2), Amount(requests=2)
            )
            report = EmbeddingReport.of(await load.run())
        assert (report.succeeded, report.errors) == (0, {error: 2})
        assert report.latency is None

    run(test)


def test_inputs_and_tokens_are_counted_and_floats_and_base64_are_both_embeddings() -> None:
    async def test() -> None:
        def script(body: dict[str, Any]) -> bytes:
            return embeddings(body, [0.5, 0.5] if len(server.asked) % 2 else "AAAAAA==")

        async with openai_server(script) as server:
            amount = Amount(requests=6, concurrency=2)
            workload = EmbeddingWorkload("m", inputs=3)
            report = EmbeddingReport.of(
                await Load(Target.parse(server.url), workload, amount).run()
            )
            assert server.connections == 2, "connections are used again"
        assert (report.requests, report.succeeded, report.inputs) == (6, 6, 18)
        assert report.tokens == sum(len(text.split()) for b in server.asked for text in b["input"])
        assert {body["model"] for body in server.asked} == {"m"}

    run(test)


def test_without_usage_there_are_no_counts_of_tokens() -> None:
    told = TimedEmbeddings(0.0, 1.0, is_done=True, tokens=7)
    silent = replace(told, tokens=None)
    report = EmbeddingReport.of(Collected([told, told], 0.0, 2.0))
    assert (report.tokens, report.tokens_per_second, report.inputs_per_second) == (14, 7.0, 1.0)
    report = EmbeddingReport.of(Collected([told, silent], 0.0, 2.0))
    assert (report.tokens, report.tokens_per_second, report.inputs_per_second) == (None, None, 1.0)


def test_lengths_are_between_the_bounds_and_the_same_seed_asks_the_same() -> None:
    workload = EmbeddingWorkload("m", shortest=5, longest=9, inputs=4)
    lengths = {len(text.split()) for text in inputs(workload)}
    assert lengths == {5, 6, 7, 8, 9}
    assert inputs(workload) == inputs(workload)
    assert inputs(workload) != inputs(replace(workload, seed=1))


def test_a_longest_input_tells_what_a_token_is() -> None:
    workload = EmbeddingWorkload("m", shortest=10, longest=100, inputs=4)
    first = workload.of_one_length()
    [text] = inputs(first, 1)
    assert len(text.split()) == 100
    assert text not in inputs(workload)
    lengths = {len(text.split()) for text in inputs(workload.calibrated(200))}
    assert max(lengths) <= 50
    assert min(lengths) >= 5


def test_token_ids_have_the_exact_length_whatever_a_word_is() -> None:
    workload = EmbeddingWorkload("m", shortest=7, longest=7, token_ids=150).calibrated(80)
    assert {len(ids) for ids in inputs(workload)} == {7}
    assert set(itertools.chain(*inputs(workload))) <= set(range(FIRST_TOKEN_ID, 150))


def test_the_first_model_that_embeds_is_asked_and_else_the_first() -> None:
    async def test() -> None:
        async with openai_server(lambda body: b"") as server:
            target = Target.parse(server.url)
            assert await first_model(target, "embeddings") == "first"
            server.models = [
                {"id": "chats", "capabilities": ["chat"]},
                {"id": "silent"},
                {"id": "embeds", "capabilities": ["embeddings"]},
            ]
            assert await first_model(target, "embeddings") == "embeds"
            assert await first_model(target) == "chats"

    run(test)


def test_the_report_is_json() -> None:
    report = EmbeddingReport.of(Collected([TimedEmbeddings(0.0, 0.5, tokens=3)], 0.0, 1.0))
    told = json.loads(json.dumps(report.as_json()))
    assert told["latency"]["p99"] == 0.5
