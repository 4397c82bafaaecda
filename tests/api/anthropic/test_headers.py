"""The request's id, and what a key has left, in Anthropic's headers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from llmserve.admission.quota import Quota, Remainder
from llmserve.api.anthropic.headers import anthropic_headers


def test_without_limits_there_is_the_id() -> None:
    assert anthropic_headers("r1", None) == {"request-id": "r1"}


def test_each_limit_has_three_headers() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    made = dict(anthropic_headers("r1", Quota(Remainder(60, 59, 30.0), None)))
    reset = made.pop("anthropic-ratelimit-requests-reset")
    assert made == {
        "request-id": "r1",
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "59",
    }
    at = datetime.fromisoformat(reset)
    assert before + timedelta(seconds=30) <= at <= datetime.now(UTC) + timedelta(seconds=30)
    tokens = anthropic_headers("r1", Quota(None, Remainder(9, 0, 1.0)))
    assert tokens["anthropic-ratelimit-tokens-remaining"] == "0"
    assert "anthropic-ratelimit-requests-limit" not in tokens
