"""Lines about requests that are over."""

from __future__ import annotations

from dataclasses import replace

from loguru import logger

from llmserve.observability.timings import RequestTimings, access_fields, warn_if_slow

ONE = RequestTimings(
    request_id="r",
    model="m",
    key="k",
    outcome="stop",
    prompt_tokens=10,
    completion_tokens=5,
    cached_tokens=2,
    queue_seconds=0.5,
    prefill_seconds=0.25,
    ttft_seconds=0.75,
    decode_seconds=1.0,
    duration_seconds=1.75,
)


def test_nothing_generated_is_nothing_told() -> None:
    assert access_fields([]) == {}


def test_choices_are_summed_and_the_longest_time_counts() -> None:
    other = replace(ONE, outcome="length", ttft_seconds=None, queue_seconds=2.0)
    assert access_fields([ONE, other]) == {
        "model": "m",
        "key": "k",
        "outcome": "stop,length",
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "cached_tokens": 4,
        "queue_ms": 2000.0,
        "ttft_ms": 750.0,
    }


def test_only_a_slow_request_is_warned_about_with_where_its_time_went() -> None:
    warnings: list[str] = []
    sink = logger.add(
        lambda message: warnings.append(f"{message.record['message']} {message.record['extra']}"),
        level="WARNING",
    )
    warn_if_slow(ONE, None)
    warn_if_slow(ONE, 1.75)
    assert warnings == []
    warn_if_slow(replace(ONE, decode_seconds=None), 1.0)
    logger.remove(sink)
    assert len(warnings) == 1
    assert "slow request r: 1.8 s" in warnings[0]
    assert "'queue_ms': 500.0" in warnings[0]
    assert "decode_ms" not in warnings[0]
