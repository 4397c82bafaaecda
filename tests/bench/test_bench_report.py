"""Arithmetic of the report, and what is asked."""

from __future__ import annotations

import pytest

from llmserve.bench.answer import TimedAnswer
from llmserve.bench.load import Collected
from llmserve.bench.report import Goal, Report, Spread
from llmserve.bench.target import Target
from llmserve.errors import ConfigurationError


def answer(first: float, gap: float, tokens: int = 5, events: int | None = None) -> TimedAnswer:
    count = events or tokens
    at = [10 + first + gap * n for n in range(count)]
    return TimedAnswer(
        10.0, at[-1], token_at=at, prompt_tokens=3, completion_tokens=tokens, is_done=True
    )


def test_quantiles_are_nearest_ranks() -> None:
    assert Spread.of([]) is None
    assert Spread.of([float(n) for n in range(1, 101)]) == Spread(50.5, 50, 90, 95, 99, 100)
    assert Spread.of([7.0]) == Spread(7, 7, 7, 7, 7, 7)


def test_rates_are_of_the_whole_span() -> None:
    collected = Collected([answer(1.0, 0.5), answer(2.0, 0.5)], began_at=10.0, ended_at=20.0)
    report = Report.of(collected)
    assert report.output_tokens_per_second == 1.0
    assert report.total_tokens_per_second == 1.6
    assert report.requests_per_second == 0.2
    assert report.ttft is not None
    assert report.ttft.mean == pytest.approx(1.5)
    assert report.good is None


def test_tokens_that_share_an_event_share_its_gap() -> None:
    assert answer(1.0, 0.6, tokens=12, events=4).gaps == pytest.approx([0.2, 0.2, 0.2])


def test_goodput_counts_who_was_quick_enough_of_all_who_asked() -> None:
    failed = TimedAnswer(10.0, 11.0, error="status 429")
    late, slow, good = answer(3.0, 0.1), answer(0.5, 0.5), answer(0.5, 0.1)
    collected = Collected([failed, late, slow, good], began_at=10.0, ended_at=14.0)
    report = Report.of(collected, Goal(ttft=1.0, itl=0.2))
    assert (report.good, report.goodput) == (0.25, 0.25)
    assert Report.of(collected, Goal(ttft=1.0)).good == 0.5
    assert Report.of(collected, Goal(itl=0.2)).good == 0.5


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999"])
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a server's URL"):
        Target.parse(url)


def test_urls_are_read_with_and_without_v1() -> None:
    assert Target.parse("http://h:1/v1") == Target("h", 1, False, "")
    assert Target.parse("https://h/llm/v1/") == Target("h", 443, True, "/llm")
    request = Target.parse("h:8000", "secret").request("POST", "/v1/completions", b"{}")
    assert request.startswith(b"POST /v1/completions HTTP/1.1\r\nHost: h:8000\r\n")
    assert b"Authorization: Bearer secret\r\n" in request
    assert request.endswith(b"\r\n\r\n{}")
