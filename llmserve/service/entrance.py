"""What every request passes that uses a model: it is found and held, the key's limits and the gate
let the request in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from llmserve.admission.limits import Admission, Limiter
from llmserve.domain import Caller, EncodingRequest, GenerationRequest
from llmserve.errors import NotReady, TooMany
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ServedModel
from llmserve.service.gates import Gates
from llmserve.service.leasing import Leasing
from llmserve.service.limits import Limits
from llmserve.service.place import Place
from llmserve.service.recorder import Recorder
from llmserve.service.shares import Shares


class Entrance:
    """Owned by the event loop.

    Attributes:
        gates: one per loaded model; bounds what runs and what waits.
    """

    def __init__(
        self,
        registry: Registry,
        loader: Loader,
        limits: Limits,
        recorder: Recorder,
        limiter: Limiter,
        clock: Callable[[], float],
    ) -> None:
        self.gates = Gates(limits, clock)
        self._registry = registry
        self._leasing = Leasing(registry, loader, clock)
        self._limits = limits
        self._recorder = recorder
        self._limiter = limiter

    def seconds_for(
        self, requests: Sequence[GenerationRequest | EncodingRequest], caller: Caller
    ) -> float:
        """How long requests that came together may take."""
        most = self._limits.timeout_for(caller)
        return min(most, *(request.timeout_seconds or most for request in requests))

    def leased(
        self,
        name: str | None,
        timeout_seconds: float | None,
        caller: Caller,
        *,
        loads_adapter: bool = True,
    ) -> contextlib.AbstractAsyncContextManager[Resolved]:
        """Who answers a request, ready, and held while the request is prepared."""
        patience = min(
            self._limits.wait_timeout_seconds, timeout_seconds or self._limits.timeout_for(caller)
        )
        return self._leasing.held(name, caller, patience, loads_adapter=loads_adapter)

    @contextlib.contextmanager
    def admitted(self, caller: Caller, requests: int) -> Iterator[tuple[Admission, Shares]]:
        """Let in by the limits of the key, while inside and as long as a share is out.

        Refused by us later, the requests count for nothing; with a prompt that cannot be served, or
        abandoned by their caller, they do: making tokens was work.
        """
        admission = self._limiter.admit(caller, requests=requests)
        shares = Shares(admission)
        try:
            yield admission, shares
        except (TooMany, NotReady):
            admission.refund()
            raise
        finally:
            shares.close()

    def place(self, resolved: Resolved, caller: Caller, shares: Shares) -> Place:
        """Of a request that was let in; it waits for its turn from `enter` on."""
        served = resolved.model
        lease = contextlib.ExitStack()
        lease.enter_context(self._registry.lease(served, resolved.adapter))
        return Place(
            self.gates.of(served),
            caller,
            release_lease=lease.close,
            charge=shares.take(),
            on_change=partial(self._show_load, served),
        )

    def _show_load(self, served: ServedModel) -> None:
        name = served.spec.name
        self._recorder.load(name, *self.gates.load(served))
        self._recorder.background_load(name, *self.gates.background_load(served))
