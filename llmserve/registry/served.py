"""One model that this process serves: its engine and where it is in its life."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from llmserve.domain import EncodingPurpose, LoadProgress, ModelSpec, UpstreamInfo
from llmserve.engines.encoder import Encoder
from llmserve.engines.engine import Engine, Generator
from llmserve.engines.weights.purpose import purposes_of
from llmserve.errors import DeviceLost, InvalidRequest, LLMServeError

if TYPE_CHECKING:
    from llmserve.registry.served_adapter import ServedAdapter


class ModelStatus(StrEnum):
    """Where a model is in its life."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    BROKEN = "broken"


@dataclass(slots=True, eq=False)
class ServedModel:
    """One incarnation: a reload makes a new one. Owned by the event loop; `progress` alone is
    replaced from the loading thread.

    Attributes:
        engine: `None` while nothing is loaded.
        is_on_demand: a request for it loads it.
        is_pinned: neither evicted nor unloaded for being idle.
        keep_seconds: how long it stays loaded without being used, in place of what the policy says.
        used_at: when the last lease was given or ended, by the registry's clock.
        created: the Unix time that `/v1/models` shows.
        adapters: those that can answer in its place, by their own names.
        adapters_turn: held while adapters are loaded and unloaded.
    """

    spec: ModelSpec
    engine: Engine | None = None
    status: ModelStatus = ModelStatus.UNLOADED
    progress: LoadProgress = field(default_factory=lambda: LoadProgress("waiting"))
    error: LLMServeError | None = None
    is_on_demand: bool = False
    is_pinned: bool = False
    keep_seconds: float | None = None
    open_leases: int = 0
    used_at: float = 0.0
    created: int = field(default_factory=lambda: int(time.time()))
    has_no_leases: asyncio.Event = field(default_factory=asyncio.Event)
    adapters: dict[str, ServedAdapter] = field(default_factory=dict)
    adapters_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that requests may call it by."""
        return self.spec.names

    @property
    def loaded_engine(self) -> Engine:
        """The engine of a model that is ready."""
        assert self.engine is not None, f"{self.spec.name} is not loaded"
        return self.engine

    @property
    def generator(self) -> Generator:
        """The engine of a model that is ready, for requests that generate.

        Raises:
            InvalidRequest: it does something else.
        """
        engine = self.loaded_engine
        if not isinstance(engine, Generator):
            raise self._cannot("generate text")
        return engine

    @property
    def encoder(self) -> Encoder:
        """The engine of a model that is ready, for requests to encode.

        Raises:
            InvalidRequest: it does something else.
        """
        engine = self.loaded_engine
        if not isinstance(engine, Encoder):
            raise self._cannot("embed, score or classify texts")
        return engine

    @property
    def generates(self) -> bool:
        """Whether it makes text, as far as that is known before it is loaded."""
        return not any(map(self.encodes_for, EncodingPurpose))

    def encodes_for(self, purpose: EncodingPurpose) -> bool:
        """Whether it does; before it is loaded, as far as its files are here."""
        if self.engine is not None and self.status is ModelStatus.READY:
            return isinstance(self.engine, Encoder) and purpose in self.engine.purposes
        return purpose in purposes_of(self.spec)

    def _cannot(self, what: str) -> InvalidRequest:
        can = ", ".join(self.loaded_engine.info.capabilities)
        return InvalidRequest(
            f"model {self.spec.name!r} does not {what}; what it can do: {can}", param="model"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What does not work as it should, though the model serves; its adapters included."""
        if self.engine is None or self.status is not ModelStatus.READY:
            return ()
        broken = (
            f"{one.name}: {one.error.message}"
            for one in self.adapters.values()
            if one.error is not None
        )
        return (*self.loaded_engine.info.warnings, *broken)

    @property
    def upstreams(self) -> tuple[UpstreamInfo, ...]:
        """Of a model that other servers serve, while it is ready."""
        is_ready = self.engine is not None and self.status is ModelStatus.READY
        return self.loaded_engine.info.upstreams if is_ready else ()

    @property
    def seconds_since_step(self) -> float | None:
        """Age of the last sign of life where it has work, `None` where it has none: of the engine,
        or of a prompt that is being made into tokens. Infinite where its device is lost, though
        nothing may have been loaded."""
        if isinstance(self.error, DeviceLost):
            return float("inf")
        if self.engine is None:
            return None
        stats = self.engine.stats()
        ages = (stats.seconds_since_step, stats.seconds_preparing)
        return max((age for age in ages if age is not None), default=None)

    @property
    def memory_bytes(self) -> int:
        """Of the weights, adapters, the paged cache and pinned prefixes, while they are loaded."""
        if self.engine is None or self.status not in (ModelStatus.READY, ModelStatus.UNLOADING):
            return 0
        info = self.engine.info
        loaded = info.weight_bytes + info.adapter_bytes + info.cache_bytes
        return loaded + self.engine.stats().pinned_bytes
