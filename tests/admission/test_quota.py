"""The `x-ratelimit-*` headers."""

from __future__ import annotations

import pytest

from llmserve.admission.quota import Quota, Remainder, headers


def test_a_limit_that_there_is_not_has_no_header() -> None:
    assert headers(Quota(None, None)) == {}
    assert set(headers(Quota(None, Remainder(5, 0, 1.0)))) == {
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (0.9995, "1s"),
        (1.0, "1s"),
        (1.2, "2s"),
        (59.9991, "1m0s"),
        (360.0, "6m0s"),
        (3723.0, "1h2m3s"),
        (3600.0, "1h0m0s"),
    ],
)
def test_a_duration_reads_as_with_openai_and_is_never_too_short(seconds: float, text: str) -> None:
    made = headers(Quota(Remainder(60, 59, seconds), None))
    assert made == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": text,
    }
