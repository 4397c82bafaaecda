"""GET /v1/models and GET /v1/models/{model}."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.openai.chat_body import ChatBody
from llmserve.domain import (
    EncodingInfo,
    EncodingPurpose,
    EngineInfo,
    Quantization,
    SamplingParams,
    UpstreamState,
)
from llmserve.errors import ModelNotFound
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus, ServedModel

TOLD_DEFAULTS: Final = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
    "presence_penalty", "frequency_penalty", "stop",
)  # fmt: skip

router = APIRouter(prefix="/v1", route_class=keyed_route(identify, openai_error), tags=["openai"])


@router.head("/models", include_in_schema=False)
@router.get("/models")
async def list_models(container: TheContainer, caller: TheCaller) -> dict[str, Any]:
    """Every served model and adapter that the caller may use."""
    everything = container.registry.everything
    models = [_body(found) for found in everything if caller.may_use(found.permissions)]
    return {"object": "list", "data": models}


@router.head("/models/{model:path}", include_in_schema=False)
@router.get("/models/{model:path}")
async def retrieve_model(model: str, container: TheContainer, caller: TheCaller) -> dict[str, Any]:
    """One model, by name or alias."""
    found = container.registry.resolve(model)
    if not caller.may_use(found.permissions):
        raise ModelNotFound(f"model {model[:100]!r} is not served to this key", param="model")
    return _body(found)


def _default_sampling(model: ServedModel, info: EngineInfo) -> dict[str, Any]:
    """How a chat is sampled where its request is silent; `max_tokens` is null where an answer may
    fill the context."""
    params = SamplingParams.resolve(model.spec.sampling, info.sampling, ChatBody.sampling_defaults)
    return {name: getattr(params, name) for name in TOLD_DEFAULTS}


def _quantization(told: Quantization) -> dict[str, Any]:
    """`expanded` weights compute in `dtype`, as if they never had been quantised."""
    return {
        "method": told.method,
        "bits": told.bits,
        "from": told.origin,
        "expanded": told.is_expanded,
    }


def _body(found: Resolved) -> dict[str, Any]:
    """`root` and `parent` are vLLM's words for what an adapter is, and of which model."""
    model = found.model
    body: dict[str, Any] = {
        "id": found.name,
        "object": "model",
        "created": found.created,
        "owned_by": "llmserve",
        "root": found.root,
        "parent": found.parent,
        "aliases": list(found.names[1:]),
        "status": found.status.value,
    }
    if found.info is not None:
        body["adapter"] = {"rank": found.info.rank, "modules": list(found.info.modules)}
    if model.status is ModelStatus.READY:
        info = model.loaded_engine.info
        body |= {
            "max_model_len": info.max_context,
            "parameters": info.parameters or None,
            "dtype": info.dtype,
            "device": info.device,
            "architecture": info.architecture,
            "capabilities": list(info.capabilities),
            "engine": {"kind": info.kind.value, "why": info.why},
        }
        if info.num_states:
            body["recurrent_states"] = {"slots": info.num_states, "bytes": info.state_bytes}
        if info.encoding is None:
            body["modalities"] = {"input": ["text"], "output": ["text"]}
            body["default_sampling"] = _default_sampling(model, info)
        else:
            body["encoding"] = {
                "dimensions": info.encoding.dimensions,
                "normalized": info.encoding.is_normalized,
                "prompts": list(info.encoding.prompts),
                "labels": list(info.encoding.labels),
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
        if info.quantization is not None:
            body["quantization"] = _quantization(info.quantization)
        if info.rules.ignored:
            body["ignored_generation_config"] = list(info.rules.ignored)
    elif purposes := tuple(p for p in EncodingPurpose if model.encodes_for(p)):
        body["capabilities"] = list(EncodingInfo(purposes).capabilities)
    if model.warnings:
        body["warnings"] = list(model.warnings)
    return body
