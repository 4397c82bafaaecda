"""Which models this process serves, by name. Lends them; what loads them is the loader."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from llmserve.clock import awake_clock
from llmserve.domain import EncodingPurpose, ModelSpec
from llmserve.errors import (
    InvalidRequest,
    LLMServeError,
    ModelBroken,
    ModelLoading,
    ModelNotFound,
    ModelUnloaded,
)
from llmserve.registry.served import ModelStatus, ServedModel

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
        self._by_name: dict[str, ServedModel] = {}
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

    def add(self, spec: ModelSpec, *, is_on_demand: bool = False) -> ServedModel:
        """Serve one more model, not loaded yet.

        Raises:
            ModelBroken: one of its names belongs to another model.
        """
        model = ServedModel(
            spec,
            is_on_demand=is_on_demand,
            is_pinned=bool(self._pinned.intersection((spec.name, *spec.aliases))),
        )
        self._put(model)
        return model

    def replace(self, old: ServedModel, new: ServedModel) -> None:
        """From now on requests get the new incarnation.

        Raises:
            ModelBroken: as `check`; nothing has changed.
        """
        self.check(new.spec)
        for name in old.names:
            self._by_name.pop(name, None)
        self._put(new)

    def check(self, spec: ModelSpec) -> None:
        """See that this model could be served, or be served instead of the one of its name.

        Raises:
            ModelBroken: one of its names belongs to another model.
        """
        for name in (spec.name, *spec.aliases):
            owner = self._by_name.get(name)
            if owner is not None and owner.spec.name != spec.name:
                raise ModelBroken(
                    f"the name {name!r} belongs to {owner.spec.name!r} already; change an alias"
                )

    def remove(self, model: ServedModel) -> None:
        """Serve it no more, by any name."""
        del self._models[model.spec.name]
        for name in model.names:
            self._by_name.pop(name, None)

    def answering(self, name: str | None) -> ServedModel:
        """The model that answers requests for this name; see `find`.

        Raises:
            ModelNotFound: nobody does.
        """
        try:
            return self.find(name)
        except ModelNotFound:
            if not self._serves_any_name:
                raise
            return self.find(None)

    def encoding(
        self, name: str | None, purpose: EncodingPurpose, may_use: Callable[[ServedModel], bool]
    ) -> ServedModel:
        """The model that answers requests to encode for this name. `None` is the default model if
        it does that, or the first that does and may be used.

        Raises:
            ModelNotFound: nobody has the name.
            InvalidRequest: no served model does it.
        """
        if name is not None:
            try:
                return self.find(name)
            except ModelNotFound:
                if not self._serves_any_name:
                    raise
        default = [self.find(self._default)] if self._default is not None else []
        for model in (*default, *self.models):
            if model.encodes_for(purpose) and may_use(model):
                return model
        raise InvalidRequest(
            f"no model that is served here is for this ({purpose.value}); serve one, or name one "
            "that is loaded on demand",
            param="model",
        )

    def find(self, name: str | None) -> ServedModel:
        """The model of that name or alias; `None` is the default.

        Raises:
            ModelNotFound: names the closest model that is served.
        """
        if name is None:
            name = self._default or self._first
        model = self._by_name.get(name) or self._by_name.get(name.removesuffix(LATEST))
        if model is None:
            shown = name if len(name) <= 100 else name[:100] + "…"
            near = difflib.get_close_matches(name[:200], self._by_name, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "GET /v1/models lists what is"
            raise ModelNotFound(f"model {shown!r} is not served here; {hint}", param="model")
        return model

    @property
    def _first(self) -> str:
        """The name of the first model that generates, or of the first."""
        names = (n for n, m in self._models.items() if not any(map(m.encodes_for, EncodingPurpose)))
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
    def lease(self, model: ServedModel) -> Iterator[ServedModel]:
        """Hold a model: it is not let go of while a lease is open."""
        model.open_leases += 1
        model.used_at = self.clock()
        model.has_no_leases.clear()
        try:
            yield model
        finally:
            model.open_leases -= 1
            model.used_at = self.clock()
            if model.open_leases == 0:
                model.has_no_leases.set()

    def _put(self, model: ServedModel) -> None:
        self.check(model.spec)
        self._models[model.spec.name] = model
        for name in model.names:
            self._by_name[name] = model
