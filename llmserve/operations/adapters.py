"""What an operator does to the adapters of one worker's models."""

from __future__ import annotations

from loguru import logger

from llmserve.domain import AdapterSource, AdapterSpec
from llmserve.errors import ConfigurationError, InvalidRequest, LLMServeError, ModelNotFound
from llmserve.operations.desired import Change, Desired, DesiredAdapter
from llmserve.registry.adapter_loader import AdapterLoader
from llmserve.registry.adapter_sources import AdapterSources
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.registry.served_adapter import ServedAdapter
from llmserve.service import Service


class AdapterOperations:
    """Loads and unloads them; each returns what is to be known of it by workers that come later.
    Owned by the event loop."""

    def __init__(
        self,
        service: Service,
        registry: Registry,
        loader: AdapterLoader,
        sources: AdapterSources,
    ) -> None:
        self._service = service
        self._registry = registry
        self._loader = loader
        self._sources = sources

    async def load(
        self, model: ServedModel, wanted: AdapterSource, *, anew: bool = False
    ) -> Change:
        """Load an adapter of a model that is ready; one that is there from elsewhere is replaced,
        as is any if it is wanted `anew`.

        Raises:
            LLMServeError: it cannot be served; what was served before is as it was, not loaded.
        """
        before = model.adapters.get(wanted.name)
        was_on_demand = before is not None and before.is_on_demand
        spec = self._spec(model, wanted, before)
        is_same = before is not None and _is_same(before.spec, spec)
        if before is not None and (anew or not is_same or before.status is ModelStatus.BROKEN):
            await self._loader.unload(model, before, self._cut_short)
        adapter = before
        try:
            if adapter is None or not is_same:
                adapter = self._registry.add_adapter(model, spec)
            adapter.was_added = wanted.source is not None or (is_same and adapter.was_added)
            adapter.is_on_demand = True
            await self._loader.load(model, adapter)
            if adapter.error is not None:
                raise _told(adapter.error)
        except LLMServeError:
            if adapter is not None and adapter is not before:  # it must not stay behind
                self._registry.remove_adapter(model, adapter)
            if before is not None:
                before.is_on_demand = was_on_demand
                self._registry.put_adapter(model, before)
            raise
        return _remembering(model, adapter, is_loaded=True)

    async def unload(self, model: ServedModel, name: str, timeout_seconds: float | None) -> Change:
        """Unload an adapter. One that came from elsewhere is served no more.

        Raises:
            ModelNotFound: somebody else has just done that.
        """
        adapter = model.adapters.get(name)
        if adapter is None:
            raise ModelNotFound(f"model {model.spec.name!r} has no adapter {name!r}", param="model")
        await self._loader.unload(model, adapter, self._cut_short, timeout_seconds)
        if adapter.was_added and model.adapters.get(name) is adapter:
            self._registry.remove_adapter(model, adapter)
        return _remembering(model, adapter, is_loaded=False)

    def recall(self, desired: Desired) -> None:
        """Serve what operators loaded since the start, when this worker begins."""
        models = {model.spec.argument or model.spec.name: model for model in self._registry.models}
        for wish in desired.adapters:
            model = models.get(wish.base)
            if model is None:  # it was unloaded
                continue
            try:
                self._recall(model, wish)
            except LLMServeError as error:
                logger.error("{}:{}: {}", model.spec.name, wish.adapter.name, error.message)

    def _recall(self, model: ServedModel, wish: DesiredAdapter) -> None:
        adapter = model.adapters.get(wish.adapter.name)
        if adapter is None or wish.adapter.source is not None:
            spec = self._sources.spec(model.spec, wish.adapter)
            adapter = self._registry.add_adapter(model, spec)
            adapter.was_added = wish.adapter.source is not None
        adapter.is_initial = adapter.is_on_demand = wish.is_loaded

    def _spec(
        self, model: ServedModel, wanted: AdapterSource, before: ServedAdapter | None
    ) -> AdapterSpec:
        if before is not None and before.was_added and wanted.source is None:
            return before.spec
        return self._sources.spec(model.spec, wanted)

    def _cut_short(self, adapter: ServedAdapter, error: LLMServeError) -> None:
        self._service.cut_short(error=error, adapter=adapter)


def _told(error: LLMServeError) -> LLMServeError:
    """To whoever asked for it, what cannot be downloaded is a mistake of theirs."""
    if isinstance(error, ConfigurationError):
        return InvalidRequest(error.message, param="source")
    return error


def _is_same(one: AdapterSpec, other: AdapterSpec) -> bool:
    return (one.path, one.hub_id, one.revision, one.aliases) == (
        *(other.path, other.hub_id, other.revision, other.aliases),
    )


def _remembering(model: ServedModel, adapter: ServedAdapter, *, is_loaded: bool) -> Change:
    spec = adapter.spec
    source = None
    if adapter.was_added:
        source = spec.hub_id if spec.path is None else str(spec.path)
    wanted = AdapterSource(spec.name, source, spec.revision if source else None,
                           spec.aliases if source else ())  # fmt: skip
    wish = DesiredAdapter(model.spec.argument or model.spec.name, wanted, is_loaded)
    return lambda desired: desired.with_adapter(wish)
