"""Which models this process serves, by name. Lends them; what loads them is the loader."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from llmserve.clock import awake_clock
from llmserve.domain import AdapterSpec, EncodingPurpose, ModelSpec
from llmserve.errors import (
    InvalidRequest,
    LLMServeError,
    ModelBroken,
    ModelLoading,
    ModelNotFound,
    ModelUnloaded,
)
from llmserve.registry.references import every_adapter
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.registry.served_adapter import ServedAdapter

LOADING_RETRY_SECONDS = 5.0

LATEST: Final = ":latest"
"""Ollama's clients add it to a name without a tag; it means the name itself."""


class Registry:
    """The served models; the first that generates is the default unless `default` names another.
    `broken` says why some of them cannot be loaded, by name. With `serves_any_name` the default
    model answers to names that nobody has.

    Owned by the event loop.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        *,
        on_demand: Sequence[ModelSpec] = (),
        pinned: Sequence[str] = (),
        default: str | None = None,
        serves_any_name: bool = False,
        broken: Mapping[str, LLMServeError] | None = None,
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        self.clock = clock
        self._pinned = frozenset(pinned)
        self._default = default
        self._serves_any_name = serves_any_name
        self._models: dict[str, ServedModel] = {}
        self._by_name: dict[str, Resolved] = {}
        for spec in specs:
            self.add(spec)
        for spec in on_demand:
            self.add(spec, is_on_demand=True)
        for name, error in (broken or {}).items():
            model = self._models[name]
            model.status, model.error = ModelStatus.BROKEN, ModelBroken(error.message)

    @property
    def models(self) -> Sequence[ServedModel]:
        """All of them, in the order in which they were named."""
        return list(self._models.values())

    @property
    def everything(self) -> Sequence[Resolved]:
        """All that has a name: each model, and its adapters after it."""
        found: list[Resolved] = []
        for model in self._models.values():
            found.append(Resolved(model))
            found += [Resolved(model, adapter) for adapter in model.adapters.values()]
        return found

    def add(self, spec: ModelSpec, *, is_on_demand: bool = False) -> ServedModel:
        """Serve one more model, not loaded yet.

        Raises:
            ModelBroken: one of its names belongs to another model.
        """
        model = ServedModel(
            spec,
            is_on_demand=is_on_demand,
            is_pinned=bool(self._pinned.intersection(spec.names)),
        )
        model.adapters = {one.name: self._adapter(model, one) for one in spec.adapters}
        self._put(model)
        return model

    def add_adapter(self, model: ServedModel, spec: AdapterSpec) -> ServedAdapter:
        """Serve one more adapter of a model, or the same one from elsewhere; not loaded yet.

        Raises:
            ModelBroken: as `put_adapter`.
        """
        adapter = self._adapter(model, spec)
        self.put_adapter(model, adapter)
        return adapter

    def put_adapter(self, model: ServedModel, adapter: ServedAdapter) -> None:
        """Serve this adapter of a model instead of the one of its name, if there is one.

        Raises:
            ModelBroken: one of its names belongs to another.
        """
        for name in adapter.names:
            owner = self._by_name.get(name)
            if owner is not None and owner.name != adapter.name:
                raise _taken(name, owner)
        self._forget_names(model)
        model.adapters[adapter.spec.name] = adapter
        self._learn_names(model)

    def remove_adapter(self, model: ServedModel, adapter: ServedAdapter) -> None:
        """Serve it no more, by any name."""
        self._forget_names(model)
        del model.adapters[adapter.spec.name]
        self._learn_names(model)

    def successor(self, old: ServedModel, spec: ModelSpec) -> ServedModel:
        """The model that is to replace an old one. It has the adapters of its spec and those that
        an operator added; what an operator loaded or unloaded stays so."""
        new = ServedModel(spec, is_on_demand=old.is_on_demand, is_pinned=old.is_pinned)
        specs = {one.name: one for one in spec.adapters}
        added = {name: one.spec for name, one in old.adapters.items() if one.was_added}
        for name, one in (specs | added).items():
            before = old.adapters.get(name)
            new.adapters[name] = (
                self._adapter(new, one) if before is None else self._successor_of(before, new, one)
            )
        return new

    def replace(self, old: ServedModel, new: ServedModel) -> None:
        """From now on requests get the new incarnation, and so does what an operator has added to
        the old one meanwhile.

        Raises:
            ModelBroken: as `check`; nothing has changed.
        """
        self._check(new)
        for name, adapter in old.adapters.items():
            if adapter.was_added and name not in new.adapters:
                new.adapters[name] = self._successor_of(adapter, new, adapter.spec)
        self._forget_names(old)
        self._put(new)

    def check(self, spec: ModelSpec) -> None:
        """See that this model could be served, or be served instead of the one of its name.

        Raises:
            ModelBroken: one of its names belongs to another model.
        """
        self._check_names(spec.name, spec.all_names)

    def remove(self, model: ServedModel) -> None:
        """Serve it no more, by any name."""
        del self._models[model.spec.name]
        self._forget_names(model)

    def answering(self, name: str | None) -> Resolved:
        """Who answers requests for this name; see `resolve`.

        Raises:
            ModelNotFound: nobody does.
        """
        try:
            return self.resolve(name)
        except ModelNotFound:
            if not self._serves_any_name:
                raise
            return self.resolve(None)

    def encoding(
        self, name: str | None, purpose: EncodingPurpose, may_use: Callable[[Resolved], bool]
    ) -> Resolved:
        """Who answers requests to encode for this name. `None` is the default model if
        it does that, or the first that does and may be used.

        Raises:
            ModelNotFound: nobody has the name.
            InvalidRequest: no served model does it.
        """
        if name is not None:
            try:
                return self.resolve(name)
            except ModelNotFound:
                if not self._serves_any_name:
                    raise
        default = [self.resolve(self._default)] if self._default is not None else []
        for found in (*default, *map(Resolved, self.models)):
            if found.model.encodes_for(purpose) and may_use(found):
                return found
        raise InvalidRequest(
            f"no model that is served here is for this ({purpose.value}); serve one, or name one "
            "that is loaded on demand",
            param="model",
        )

    def find(self, name: str | None) -> ServedModel:
        """The model of that name or alias, or of that adapter; `None` is the default.

        Raises:
            ModelNotFound: names the closest model that is served.
        """
        return self.resolve(name).model

    def resolve(self, name: str | None) -> Resolved:
        """The model or adapter of that name or alias; `None` is the default.

        Raises:
            ModelNotFound: names the closest model that is served.
        """
        if name is None:
            name = self._default or self._first
        found = self._by_name.get(name) or self._by_name.get(name.removesuffix(LATEST))
        if found is None:
            shown = name if len(name) <= 100 else name[:100] + "…"
            near = difflib.get_close_matches(name[:200], self._by_name, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "GET /v1/models lists what is"
            raise ModelNotFound(f"model {shown!r} is not served here; {hint}", param="model")
        return found

    @property
    def _first(self) -> str:
        """The name of the first model that generates, or of the first."""
        names = (name for name, model in self._models.items() if model.generates)
        return next(names, next(iter(self._models), ""))

    def ready(self, name: str | None) -> ServedModel:
        """Like `find`, but only a model that can generate.

        Raises:
            ModelNotFound: unknown name.
            ModelLoading: try again in a while.
            ModelUnloaded: an operator unloaded it.
            ModelBroken: it could not be loaded.
        """
        model = self.find(name)
        match model.status:
            case ModelStatus.READY:
                return model
            case ModelStatus.BROKEN:
                assert model.error is not None
                raise ModelBroken(model.error.message)
            case ModelStatus.LOADING:
                raise ModelLoading(
                    f"model {model.spec.name!r} is still loading ({model.progress.stage}); "
                    "GET /health/ready shows its progress",
                    retry_after_seconds=LOADING_RETRY_SECONDS,
                )
            case _:
                raise ModelUnloaded(
                    f"model {model.spec.name!r} is {model.status.value}; "
                    "ask the operator to load it, or try again",
                    retry_after_seconds=LOADING_RETRY_SECONDS,
                )

    @contextlib.contextmanager
    def lease(self, model: ServedModel, adapter: ServedAdapter | None = None) -> Iterator[None]:
        """Hold a model, and an adapter of it: neither is let go of while a lease is open."""
        held: list[ServedModel | ServedAdapter] = [model]
        held += [adapter] if adapter is not None else []
        for one in held:
            one.open_leases += 1
            one.used_at = self.clock()
            one.has_no_leases.clear()
        try:
            yield
        finally:
            for one in held:
                one.open_leases -= 1
                one.used_at = self.clock()
                if one.open_leases == 0:
                    one.has_no_leases.set()

    def _adapter(self, model: ServedModel, spec: AdapterSpec) -> ServedAdapter:
        names = spec.served_names(model.names)
        return ServedAdapter(
            spec,
            names,
            is_pinned=bool(self._pinned.intersection((*names, *every_adapter(model.names)))),
            is_initial=spec.is_initial,
        )

    def _successor_of(
        self, old: ServedAdapter, model: ServedModel, spec: AdapterSpec
    ) -> ServedAdapter:
        adapter = self._adapter(model, spec)
        adapter.was_added = old.was_added
        adapter.is_on_demand = old.is_on_demand
        is_loaded = old.status is ModelStatus.READY
        adapter.is_initial = old.is_on_demand and (spec.is_initial or is_loaded)
        return adapter

    def _check(self, model: ServedModel) -> None:
        added = (name for one in model.adapters.values() for name in one.names)
        self._check_names(model.spec.name, (*model.names, *added))

    def _check_names(self, base: str, names: Sequence[str]) -> None:
        for name in names:
            owner = self._by_name.get(name)
            if owner is not None and owner.model.spec.name != base:
                raise _taken(name, owner)

    def _put(self, model: ServedModel) -> None:
        self._check(model)
        self._models[model.spec.name] = model
        self._learn_names(model)

    def _learn_names(self, model: ServedModel) -> None:
        for adapter in model.adapters.values():
            self._by_name |= dict.fromkeys(adapter.names, Resolved(model, adapter))
        self._by_name |= dict.fromkeys(model.names, Resolved(model))

    def _forget_names(self, model: ServedModel) -> None:
        adapters = (name for one in model.adapters.values() for name in one.names)
        for name in (*model.names, *adapters):
            self._by_name.pop(name, None)


def _taken(name: str, owner: Resolved) -> ModelBroken:
    return ModelBroken(f"the name {name!r} belongs to {owner.name!r} already; change an alias")
