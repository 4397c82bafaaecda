"""Headers of Anthropic's: the request's id, and what a key has left of its limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from llmserve.admission.quota import Quota

REQUEST_ID: Final = "request-id"
LIMITS: Final = tuple(
    f"anthropic-ratelimit-{kind}-{what}"
    for kind in ("requests", "tokens")
    for what in ("limit", "remaining", "reset")
)


def anthropic_headers(request_id: str, quota: Quota | None) -> Mapping[str, str]:
    """The response headers; limits only where there are some, full again at a time as in RFC 3339.

    Prompts and answers share one limit of tokens.
    """
    made = {REQUEST_ID: request_id}
    if quota is None:
        return made
    now = datetime.now(UTC)
    for kind, part in (("requests", quota.requests), ("tokens", quota.tokens)):
        if part is not None:
            full = now + timedelta(seconds=part.reset_seconds)
            values = (str(part.limit), str(part.remaining), full.strftime("%Y-%m-%dT%H:%M:%SZ"))
            names = (name for name in LIMITS if name.startswith(f"anthropic-ratelimit-{kind}-"))
            made.update(zip(names, values, strict=True))
    return made
