"""What a name means: a served model, or one of its adapters."""

from __future__ import annotations

from dataclasses import dataclass

from llmserve.domain import AdapterInfo
from llmserve.errors import LLMServeError
from llmserve.registry.references import every_adapter
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.registry.served_adapter import ServedAdapter


@dataclass(frozen=True, slots=True)
class Resolved:
    """The model that computes, and the adapter that it computes with, if any."""

    model: ServedModel
    adapter: ServedAdapter | None = None

    @property
    def name(self) -> str:
        """The name in answers, series and logs."""
        return self.model.spec.name if self.adapter is None else self.adapter.name

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that requests may call it by."""
        return self.model.names if self.adapter is None else self.adapter.names

    @property
    def permissions(self) -> tuple[str, ...]:
        """What a key may say to permit it. A model's own name does not permit its adapters."""
        if self.adapter is None:
            return self.model.names
        return (*self.adapter.names, *every_adapter(self.model.names))

    @property
    def status(self) -> ModelStatus:
        """Where it is in its life. An adapter that comes or goes on demand counts as unloaded:
        requests may be sent to it, and wait."""
        adapter = self.adapter
        if adapter is None:
            return self.model.status
        is_settled = adapter.status in (ModelStatus.READY, ModelStatus.BROKEN)
        return adapter.status if is_settled or not adapter.is_on_demand else ModelStatus.UNLOADED

    @property
    def error(self) -> LLMServeError | None:
        """Why it is broken."""
        return self.model.error if self.adapter is None else self.adapter.error

    @property
    def created(self) -> int:
        """The Unix time that listings show."""
        return self.model.created if self.adapter is None else self.adapter.created

    @property
    def parent(self) -> str | None:
        """An adapter's base."""
        return None if self.adapter is None else self.model.spec.name

    @property
    def root(self) -> str:
        """What it was made from: a hub id, or its own name."""
        spec = self.model.spec if self.adapter is None else self.adapter.spec
        return spec.hub_id or spec.name

    @property
    def info(self) -> AdapterInfo | None:
        """Of an adapter that is loaded."""
        return None if self.adapter is None else self.adapter.info
