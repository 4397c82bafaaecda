"""GET /v1/models and GET /v1/models/{model}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.domain import EngineInfo, UpstreamState
from llmserve.errors import ModelNotFound
from llmserve.registry.served import ModelStatus, ServedModel

router = APIRouter(prefix="/v1", route_class=keyed_route(identify, openai_error), tags=["openai"])


@router.head("/models", include_in_schema=False)
@router.get("/models")
async def list_models(container: TheContainer, caller: TheCaller) -> dict[str, Any]:
    """Every served model that the caller may use."""
    models = [_body(m) for m in container.registry.models if caller.may_use(m.names)]
    return {"object": "list", "data": models}


@router.head("/models/{model:path}", include_in_schema=False)
@router.get("/models/{model:path}")
async def retrieve_model(model: str, container: TheContainer, caller: TheCaller) -> dict[str, Any]:
    """One model, by name or alias."""
    found = container.registry.find(model)
    if not caller.may_use(found.names):
        raise ModelNotFound(f"model {model[:100]!r} is not served to this key", param="model")
    return _body(found)


def _capabilities(info: EngineInfo) -> list[str]:
    """What requests may ask of it."""
    chats = ["chat", "tools"] if info.takes_conversations else []
    thinks = info.syntax is not None and info.syntax.has_reasoning
    return ["completions", "structured_outputs", *chats, *(["reasoning"] if thinks else [])]


def _body(model: ServedModel) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": model.spec.name,
        "object": "model",
        "created": model.created,
        "owned_by": "llmserve",
        "aliases": list(model.spec.aliases),
        "status": model.status.value,
    }
    if model.status is ModelStatus.READY:
        info = model.loaded_engine.info
        body |= {
            "max_model_len": info.max_context,
            "parameters": info.parameters or None,
            "dtype": info.dtype,
            "device": info.device,
            "architecture": info.architecture,
            "capabilities": _capabilities(info),
            "engine": {"kind": info.kind.value, "why": info.why},
        }
        if info.syntax is not None:
            body["tools"] = {
                "syntax": info.syntax.name,
                "native": info.syntax.is_own,
                "why": info.syntax.why,
            }
            body["reasoning"] = info.syntax.has_reasoning
        if info.upstreams:
            up = [upstream for upstream in info.upstreams if upstream.state is UpstreamState.UP]
            body["upstreams"] = {"total": len(info.upstreams), "up": len(up)}
        if info.rules.ignored:
            body["ignored_generation_config"] = list(info.rules.ignored)
    if model.warnings:
        body["warnings"] = list(model.warnings)
    return body
