"""What a caller has left of its limits, and OpenAI's `x-ratelimit-*` headers for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MINUTE: Final = 60
HOUR: Final = 3600
MILLISECONDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Remainder:
    """One limit per minute, what is left of it, and how long until all of it is available again."""

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of both limits; `None` where there is no limit."""

    requests: Remainder | None
    tokens: Remainder | None


def headers(quota: Quota) -> dict[str, str]:
    """The response headers; none where there is no limit."""
    made = {}
    for kind, part in (("requests", quota.requests), ("tokens", quota.tokens)):
        if part is not None:
            made[f"x-ratelimit-limit-{kind}"] = str(part.limit)
            made[f"x-ratelimit-remaining-{kind}"] = str(part.remaining)
            made[f"x-ratelimit-reset-{kind}"] = _duration(part.reset_seconds)
    return made


def _duration(seconds: float) -> str:
    """As OpenAI writes it, rounded up: `120ms`, `1s`, `6m0s`, `1h2m3s`."""
    milliseconds = math.ceil(round(seconds * MILLISECONDS, 3))
    if 0 < milliseconds < MILLISECONDS:
        return f"{milliseconds}ms"
    whole = math.ceil(milliseconds / MILLISECONDS)
    hours, minutes = whole // HOUR, whole % HOUR // MINUTE
    text = f"{whole % MINUTE}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
