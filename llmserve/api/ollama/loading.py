"""Requests of Ollama's that load a model, keep it, or let go of it."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from llmserve.api.edge.disconnect import unless_client_leaves
from llmserve.api.exchange import Exchange
from llmserve.api.ollama.keep_alive import KeepAliveFields, kept_for
from llmserve.registry.served import ServedModel

B = TypeVar("B", bound=KeepAliveFields)


class Loaded(NamedTuple):
    """What became of a model that was asked for without anything to answer."""

    name: str
    reason: str


def with_kept(body: B, exchange: Exchange) -> tuple[B, ServedModel | None]:
    """The model that the body's `keep_alive` has an effect on; or a body that tells it as
    ignored."""
    if body.keep_alive is None:
        return body, None
    kept = kept_for(exchange.caller, body.model, exchange.container)
    return (body if kept is not None else body.ignoring_keep_alive()), kept


async def load(body: KeepAliveFields, exchange: Exchange, kept: ServedModel | None) -> Loaded:
    """Nothing was asked: the model is loaded, or, where it is to be kept for no time, let go of.

    Raises:
        LLMServeError: as `Service.awaken`.
    """
    exchange.report_ignored(body)
    if kept is not None and body.keep_alive == 0:
        loaded = Loaded(kept.spec.name, "unload")
    else:
        service = exchange.container.service
        loading = service.awaken(body.model, exchange.caller, exchange.timeout_seconds)
        model = await unless_client_leaves(exchange.request, loading)
        loaded = Loaded(model.spec.name, "load")
    keep(body, exchange, kept)
    return loaded


def keep(body: KeepAliveFields, exchange: Exchange, kept: ServedModel | None) -> None:
    """From now on, for so long."""
    if kept is not None and body.keep_alive is not None:
        exchange.container.loader.keep(kept, body.keep_alive)
