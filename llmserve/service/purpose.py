"""Whether a model is for what a request asks of it, and which others are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llmserve.domain import Caller, EncodingInfo, EncodingPurpose
from llmserve.errors import InvalidRequest
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel

ASKED: Final = {
    EncodingPurpose.EMBEDDING: "embed texts",
    EncodingPurpose.SCORE: "score pairs of texts",
    EncodingPurpose.CLASSIFICATION: "classify texts",
}
MAX_NAMED: Final = 5


def check_generates(served: ServedModel, registry: Registry, caller: Caller) -> None:
    """Raises: InvalidRequest: the model encodes instead."""
    if not served.generates:
        raise _wrong(served, "generate text", lambda model: model.generates, registry, caller)


def check_encodes(
    served: ServedModel, purpose: EncodingPurpose, registry: Registry, caller: Caller
) -> None:
    """Raises: InvalidRequest: the model is not for this purpose, as far as that is known before it
    is loaded."""

    def can(model: ServedModel) -> bool:
        return model.encodes_for(purpose)

    is_known = served.status is ModelStatus.READY or served.spec.hub_id is None
    if is_known and not can(served):
        raise _wrong(served, ASKED[purpose], can, registry, caller)


def _wrong(
    served: ServedModel,
    asked: str,
    can: Callable[[ServedModel], bool],
    registry: Registry,
    caller: Caller,
) -> InvalidRequest:
    others = [m.spec.name for m in registry.models if can(m) and caller.may_use(m.names)]
    named = ", ".join(map(repr, others[:MAX_NAMED]))
    remedy = f"ask {named}" if others else "no other model that you may use does, either"
    can_do = ", ".join(_capabilities(served))
    return InvalidRequest(
        f"model {served.spec.name!r} does not {asked}; what it can do: {can_do}; {remedy}",
        param="model",
    )


def _capabilities(model: ServedModel) -> tuple[str, ...]:
    """In the words of `/v1/models`."""
    if model.engine is not None and model.status is ModelStatus.READY:
        return model.engine.info.capabilities
    purposes = tuple(filter(model.encodes_for, EncodingPurpose))
    return EncodingInfo(purposes).capabilities or ("completions",)
