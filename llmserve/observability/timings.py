"""How long the parts of a request took, for log lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from loguru import logger


class Operation(StrEnum):
    """What a request asks of a model."""

    GENERATE = "generate"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class RequestTimings:
    """A request that has ended. A time is `None` if the request never got that far.

    `operation` is what was asked for. `outcome` is a finish reason, `cancelled`, or an
    error's code. `duration_seconds` counts from the request's arrival to its end, `ttft_seconds`
    from its arrival to its first token.
    """

    request_id: str
    model: str
    key: str
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_seconds: float
    prefill_seconds: float | None
    ttft_seconds: float | None
    decode_seconds: float | None
    duration_seconds: float
    operation: Operation = Operation.GENERATE


def access_fields(timings: Sequence[RequestTimings]) -> dict[str, Any]:
    """The access line's fields for a request: tokens are summed over its choices, times are the
    longest."""
    if not timings:
        return {}
    firsts = [t.ttft_seconds for t in timings if t.ttft_seconds is not None]
    fields: dict[str, Any] = {
        "model": timings[0].model,
        "key": timings[0].key,
        "outcome": ",".join(dict.fromkeys(t.outcome for t in timings)),
        "prompt_tokens": sum(t.prompt_tokens for t in timings),
        "completion_tokens": sum(t.completion_tokens for t in timings),
        "cached_tokens": sum(t.cached_tokens for t in timings),
        "queue_ms": _ms(max(t.queue_seconds for t in timings)),
    }
    return fields | ({"ttft_ms": _ms(max(firsts))} if firsts else {})


def warn_if_slow(timings: RequestTimings, limit_seconds: float | None) -> None:
    """Log a warning that shows how the time was spent, if a request took longer than the limit."""
    if limit_seconds is None or timings.duration_seconds <= limit_seconds:
        return
    parts = {
        "queue_ms": timings.queue_seconds,
        "prefill_ms": timings.prefill_seconds,
        "decode_ms": timings.decode_seconds,
        "duration_ms": timings.duration_seconds,
    }
    known = {name: _ms(seconds) for name, seconds in parts.items() if seconds is not None}
    logger.bind(
        model=timings.model,
        key=timings.key,
        outcome=timings.outcome,
        prompt_tokens=timings.prompt_tokens,
        completion_tokens=timings.completion_tokens,
        **known,
    ).warning("slow request {}: {:.1f} s", timings.request_id, timings.duration_seconds)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
