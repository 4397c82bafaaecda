"""A caller with limits, and its requests. (Not a test.)"""

from __future__ import annotations

from llmserve.admission.limits import Admission, Limiter
from llmserve.domain import Caller, CallerLimits


def team(
    requests: int | None = None, tokens: int | None = None, concurrency: int | None = None
) -> Caller:
    return Caller("team-a", limits=CallerLimits(requests, tokens, concurrency))


def enter(limiter: Limiter, caller: Caller, requests: int = 1, tokens: int = 1) -> Admission:
    return limiter.admit(caller, requests=requests, prompt_tokens=tokens)
