"""huggingface_hub's client: `text_generation` plain, with details, streamed; numbers; errors."""

from __future__ import annotations

import math

import pytest
from client_answers import check_trip
from client_session import Report, main_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return main_session(
        "huggingface_session.py",
        demo_host.url,
        "demo",
        HF_HUB_OFFLINE="0",  # it would not ask our server either
        HF_ENDPOINT=demo_host.url,
    )


def test_a_text_goes_on_the_same_in_whichever_way_it_is_asked_for(report: Report) -> None:
    text = report["plain"]
    assert text
    assert report["full"] == "Once upon a time" + text
    assert "".join(report["streamed"]) == "".join(report["asynchronous"]) == text
    assert report["detailed"]["text"] == report["detailed_stream"]["text"] == text


def test_details_are_tokens_those_of_the_prompt_and_the_likeliest(report: Report) -> None:
    details = report["detailed"]
    assert (details["reason"], details["seed"]) == ("length", 3)
    assert details["generated_tokens"] == len(details["tokens"]) == 12
    assert details["top_tokens"] == [2] * 12
    assert "".join(details["prefill"]) == "Once upon a time"
    first, *others = details["prefill_logprobs"]
    assert first is None
    assert all(logprob <= 0 for logprob in others)


def test_a_stream_has_an_event_for_each_token(report: Report) -> None:
    streamed = report["detailed_stream"]
    assert streamed["indices"] == list(range(1, 13))
    assert "".join(streamed["texts"]) == streamed["text"]
    assert all(logprob <= 0 for logprob in streamed["logprobs"])
    assert (streamed["reason"], streamed["counts"][1]) == ("length", 12)


def test_a_stop_string_stays_in_the_text(report: Report) -> None:
    assert report["stopped"]["reason"] == "stop_sequence"
    assert report["stopped"]["text"].endswith(" a")


def test_a_grammar_is_kept_and_a_long_prompt_is_cut(report: Report) -> None:
    check_trip(report["structured"])
    assert isinstance(report["truncated"], str)


def test_it_is_told_what_is_served(report: Report) -> None:
    assert report["info"]["model_id"] == "demo"
    assert report["info"]["max_total_tokens"] > report["info"]["max_input_tokens"] > 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("temperature", "parameters.temperature"),
        ("typical_p", "'parameters.typical_p' is not supported"),
        ("best_of", "'parameters.best_of' is not supported"),
        ("streamed", "'parameters.watermark' is not supported"),
        ("long", "maximum context length"),
    ],
)
def test_it_raises_its_own_exception(report: Report, error: str, words: str) -> None:
    assert report["errors"][error]["exception"] == "ValidationError"
    assert words in report["errors"][error]["message"]


def test_vectors_and_similarities_are_what_tei_gives(report: Report) -> None:
    told = report["numbers"]
    assert [math.hypot(*vector) for vector in told["vectors"]] == pytest.approx([1, 1], abs=1e-5)
    same, other = told["similarity"]
    assert same == pytest.approx(1, abs=1e-5)
    assert -1 <= other < 1
