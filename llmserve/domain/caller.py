"""Who asks, and what a key may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key opens."""

    GENERATE = "generate"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What a key may use; `None` is no limit. They hold over all workers of a box."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key, or `anonymous` where no keys are configured.

    Attributes:
        name: shown in logs, metrics and the accounting log; never the key itself.
        models: names that the caller may use; `None` is all.
        priority: the caller's share where callers compete: 4 gets four times what 1 gets.
    """

    name: str = "anonymous"
    scopes: frozenset[Scope] = frozenset({Scope.GENERATE})
    models: frozenset[str] | None = None
    limits: CallerLimits = CallerLimits()
    priority: int = 1

    def may_use(self, names: Iterable[str]) -> bool:
        """Whether a model that goes by these names is for this caller."""
        return self.models is None or not self.models.isdisjoint(names)
