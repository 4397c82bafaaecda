"""Embeddings and rerank by the Python clients of OpenAI, LangChain, litellm, Cohere and Ollama: all
see the same numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from client_session import Report, python_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return python_session(
        "embeddings_session.py", demo_host.url, "demo-embedding", "ranker", "demo"
    )


def same(one: Any, other: Any) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_it_reads_bytes_and_digits_the_same(report: Report) -> None:
    told = report["openai"]
    assert len(told["vectors"]) == 3
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in told["vectors"])
    same(told["vectors"], told["digits"])
    assert told["tokens"][0] == told["tokens"][1] > 0
    assert (told["model"], len(told["short"])) == ("demo-embedding", 8)
    same(report["at_once"], told["vectors"])


def test_langchain_reads_the_same(report: Report) -> None:
    same(report["langchain"]["vectors"], report["openai"]["vectors"])
    for query in ("query", "asynchronous"):
        assert report["langchain"][query] == pytest.approx(report["openai"]["vectors"][0], abs=1e-6)


def test_litellm_reads_the_same_and_ranks(report: Report) -> None:
    told = report["litellm"]
    same(told["vectors"], report["openai"]["vectors"])
    assert told["tokens"] == report["openai"]["tokens"][0]
    best = report["cohere"]["ranked"][:2]
    for ranked in told["ranked"].values():
        same(ranked, best)


def test_cohere_reads_the_same(report: Report) -> None:
    told = report["cohere"]
    same(told["vectors"], report["openai"]["vectors"])
    same(told["old"], report["openai"]["vectors"])
    assert told["tokens"] == report["openai"]["tokens"][0]


def test_cohere_ranks(report: Report) -> None:
    told = report["cohere"]
    scores = [score for _, score in told["ranked"]]
    assert scores == sorted(scores, reverse=True)
    assert sorted(index for index, _ in told["ranked"]) == [0, 1, 2]
    assert len(told["texts"]) == 2
    assert told["error"]["exception"] == "BadRequestError"
    assert "does not score pairs of texts" in told["error"]["words"]


def test_ollama_reads_the_same(report: Report) -> None:
    told = report["ollama"]
    same(told["vectors"], report["openai"]["vectors"])
    assert told["old"] == pytest.approx(report["openai"]["vectors"][0], abs=1e-6)
    tokens, total, loading = told["counts"]
    assert tokens == report["openai"]["tokens"][0]
    assert total >= loading >= 0
    assert (told["loaded"], told["capabilities"]) == ([], ["embedding"])
    assert "does not embed texts" in told["error"]["words"]


def test_a_model_that_cannot_is_an_error_that_names_one_that_can(report: Report) -> None:
    for name, words in (("error", "ask 'demo-embedding'"), ("chat", "ask 'demo'")):
        assert report["openai"][name]["exception"].endswith("BadRequestError")
        assert words in report["openai"][name]["words"]
