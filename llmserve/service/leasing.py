"""Who answers a request: found, permitted, loaded and held."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from llmserve.domain import Caller
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.resolved import Resolved
from llmserve.service.permission import check_model


class Leasing:
    """Owned by the event loop."""

    def __init__(self, registry: Registry, loader: Loader, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._loader = loader
        self._clock = clock

    @contextlib.asynccontextmanager
    async def held(
        self,
        name: str | None,
        caller: Caller,
        patience_seconds: float,
        *,
        loads_adapter: bool,
    ) -> AsyncIterator[Resolved]:
        """The model or adapter of this name, ready, and held while inside. What a request may load
        is loaded: first the model, then the adapter if `loads_adapter`.

        Raises:
            ModelNotFound: nobody has this name.
            Forbidden: the caller's key is not for it.
            NotReady: it is loading, broken, unloaded by an operator, or finds no room.
        """
        deadline = self._clock() + patience_seconds
        found = self._registry.answering(name)
        check_model(found, caller)
        served = await self._loader.acquire(found.model.spec.name, patience_seconds)
        with contextlib.ExitStack() as leases:
            leases.enter_context(self._registry.lease(served))
            # Found again: the model may be another incarnation by now, with adapters of its own.
            found = self._registry.answering(name)
            if loads_adapter and found.adapter is not None:
                left = max(0.0, deadline - self._clock())
                await self._loader.adapters.acquire(served, found.adapter, left)
                leases.enter_context(self._registry.lease(served, found.adapter))
            yield found
