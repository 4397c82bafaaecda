"""The call that the current task answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from llmserve.admission.credential import bearer
from llmserve.domain import Caller


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and what the request is called in logs."""

    id: str
    caller: Caller


current_call: ContextVar[Call] = ContextVar("current_call")


def headers_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Mapping[str, str]:
    """The texts among a call's metadata; of a name that comes twice, the first counts."""
    headers: dict[str, str] = {}
    for name, value in metadata or ():
        if isinstance(value, str):
            headers.setdefault(name, value)
    return headers


def credential_of(headers: Mapping[str, str]) -> str | None:
    """The key that a client presents: a bearer token, or `x-api-key`."""
    return bearer(headers.get("authorization", "")) or headers.get("x-api-key", "").strip() or None
