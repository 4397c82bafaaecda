"""Who sends a request, and what their key permits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key gives access to."""

    GENERATE = "generate"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What a key may use; `None` is no limit. All workers of a box together keep them."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: the owner of a key, or `anonymous` where no keys are configured.

    Attributes:
        name: shown in logs, metrics and the accounting log; never the key itself.
        models: names of the models that the caller may use; `None` is all.
        priority: the caller's share where callers compete: 4 gets four times what 1 gets.
        is_background: whether its requests are background work, which gives way to all other.
    """

    name: str = "anonymous"
    scopes: frozenset[Scope] = frozenset({Scope.GENERATE})
    models: frozenset[str] | None = None
    limits: CallerLimits = CallerLimits()
    priority: int = 1
    is_background: bool = False

    def may_use(self, names: Iterable[str]) -> bool:
        """Whether the caller may use a model with these names."""
        return self.models is None or not self.models.isdisjoint(names)
