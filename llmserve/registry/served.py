"""One model that this process serves: its engine and where it is in its life."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum

from llmserve.domain import LoadProgress, ModelSpec
from llmserve.engines.base import Engine
from llmserve.errors import LLMServeError


class ModelStatus(StrEnum):
    """Where a model is in its life."""

    LOADING = "loading"
    READY = "ready"
    BROKEN = "broken"


@dataclass(slots=True, eq=False)
class ServedModel:
    """Owned by the event loop; `progress` alone is replaced from the loading thread.

    `created` is the Unix time that `/v1/models` shows.
    """

    spec: ModelSpec
    engine: Engine
    status: ModelStatus = ModelStatus.LOADING
    progress: LoadProgress = field(default_factory=lambda: LoadProgress("waiting"))
    error: LLMServeError | None = None
    open_leases: int = 0
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that requests may call it by."""
        return (self.spec.name, *self.spec.aliases)
