"""One adapter of a served model: whether it is loaded, and who uses it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from llmserve.domain import AdapterInfo, AdapterSpec
from llmserve.errors import LLMServeError
from llmserve.registry.served import ModelStatus


@dataclass(slots=True, eq=False)
class ServedAdapter:
    """Goes with the incarnation of its base. Owned by the event loop.

    Attributes:
        names: every name that requests may call it by; `base:adapter` first.
        info: what was loaded, while it is.
        is_on_demand: a request for it loads it; not where an operator has unloaded it.
        is_pinned: not evicted.
        is_initial: loaded with its base.
        was_added: an operator said where it is, while the server ran.
        used_at: when the last lease was given or ended, by the registry's clock.
        created: the Unix time that `/v1/models` shows.
    """

    spec: AdapterSpec
    names: tuple[str, ...]
    status: ModelStatus = ModelStatus.UNLOADED
    info: AdapterInfo | None = None
    error: LLMServeError | None = None
    is_on_demand: bool = True
    is_pinned: bool = False
    is_initial: bool = False
    was_added: bool = False
    open_leases: int = 0
    used_at: float = 0.0
    created: int = field(default_factory=lambda: int(time.time()))
    has_no_leases: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """`base:adapter`, by its base's own name."""
        return self.names[0]

    def forget(self) -> None:
        """The engine that it was loaded in is gone, or has let go of it."""
        self.info = None
        if self.status is not ModelStatus.BROKEN:
            self.status = ModelStatus.UNLOADED
