"""GET /v1/models and GET /v1/models/{model}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from llmserve.api.container import TheContainer, identify
from llmserve.registry.served import ModelStatus, ServedModel

router = APIRouter(prefix="/v1", tags=["openai"], dependencies=[Depends(identify)])


@router.get("/models")
async def list_models(container: TheContainer) -> dict[str, Any]:
    """Every served model, the default first."""
    models = [_body(model) for model in container.registry.models]
    return {"object": "list", "data": models}


@router.get("/models/{model:path}")
async def retrieve_model(model: str, container: TheContainer) -> dict[str, Any]:
    """One model, by name or alias."""
    return _body(container.registry.find(model))


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
        info = model.engine.info
        body |= {
            "max_model_len": info.max_context,
            "parameters": info.parameters,
            "dtype": info.dtype,
            "device": info.device,
            "engine": {"kind": info.kind.value, "why": info.why},
        }
    return body
