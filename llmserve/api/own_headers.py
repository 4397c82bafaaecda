"""Headers of a dialect's own, beside the house's. Each router chooses (`keyed_route`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import Scope

from llmserve.admission.quota import Quota, headers

OwnHeaders = Callable[[str, Quota | None], Mapping[str, str]]
"""From the request's id, and what its caller's key has left, if it is known and has limits."""

IN_SCOPE: Final = "llmserve.own_headers"


def openai_headers(request_id: str, quota: Quota | None) -> Mapping[str, str]:
    """OpenAI's `x-ratelimit-*`, which others share."""
    return headers(quota) if quota is not None else {}


def set_own_headers(scope: Scope, own: OwnHeaders) -> None:
    """From now on responses to this request have these headers."""
    scope[IN_SCOPE] = own


def own_headers(scope: Scope, quota: Quota | None) -> Mapping[str, str]:
    """The headers for this request's response; OpenAI's where no router has chosen."""
    own: OwnHeaders = scope.get(IN_SCOPE, openai_headers)
    return own(scope["request_id"], quota)
