"""GET /api/tags, POST /api/show, GET /api/ps, GET /api/version."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, Response
from pydantic import Field, model_validator

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.exchange import TheExchange
from llmserve.api.fields import Fields
from llmserve.api.ollama.details import capabilities, details, info_of, modified_at, names
from llmserve.api.ollama.error import ollama_error
from llmserve.bootstrap import Container
from llmserve.domain import EngineInfo, ModelSpec
from llmserve.errors import ModelNotFound
from llmserve.registry.served import ServedModel

router = APIRouter(
    prefix="/api",
    route_class=keyed_route(identify, ollama_error, takes_any_type=True),
    tags=["ollama"],
)

SPOKEN: Final = "0.13.0"
"""The version of Ollama whose API this is; clients refuse to speak to one that is too old."""

NEVER: Final = datetime(9999, 12, 31, tzinfo=UTC)

PARAMETERS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "max_tokens": "num_predict",
    "repetition_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
}
"""What a model.toml may set, by Ollama's names."""


class ShowBody(Fields):
    """POST /api/show."""

    model: str | None = Field(None, description="A served model; the default one if absent.")
    name: str | None = Field(None, description="Older name of `model`.")

    @model_validator(mode="after")
    def _one_name(self) -> ShowBody:
        if self.model is not None and self.name is not None and self.model != self.name:
            raise ValueError("name is the older form of model; send one of them")
        return self


@router.head("/version", include_in_schema=False)
@router.get("/version")
async def api_version() -> Response:
    """Whose API this is, and which server."""
    return JSON({"version": SPOKEN, "server": f"llmserve {version('llmserve')}"})


@router.head("/tags", include_in_schema=False)
@router.get("/tags")
async def tags(container: TheContainer, caller: TheCaller) -> Response:
    """Every served model that the caller may use."""
    models = [
        {
            **names(model),
            "modified_at": modified_at(model),
            "size": 0 if (info := info_of(model)) is None else info.weight_bytes,
            "details": details(model),
        }
        for model in container.registry.models
        if caller.may_use(model.names)
    ]
    return JSON({"models": models})


@router.head("/ps", include_in_schema=False)
@router.get("/ps")
async def loaded(container: TheContainer, caller: TheCaller) -> Response:
    """Those that are loaded, and until when if nobody uses them."""
    models = [
        _running(model, info, container)
        for model in container.registry.models
        if caller.may_use(model.names) and (info := info_of(model)) is not None
    ]
    return JSON({"models": models})


@router.post("/show", response_class=Response)
async def show(body: ShowBody, exchange: TheExchange) -> Response:
    """One model: what it is, what it can do, its chat template."""
    container, caller = exchange.container, exchange.caller
    exchange.report_ignored(body)
    found = container.registry.find(body.model or body.name)
    if not caller.may_use(found.names):
        raise ModelNotFound(f"model {found.spec.name!r} is not served to this key", param="model")
    info = info_of(found)
    template = ""
    if info is not None and info.has_tokenizer:
        _, template = await exchange.read(found.spec.name, lambda one: one.template_source)
    told = {
        "parameters": "\n".join(_parameters(found.spec)),
        "template": template,
        "details": details(found),
        "model_info": {} if info is None else _model_info(info),
        "capabilities": capabilities(info),
        "modified_at": modified_at(found),
    }
    return JSON(told)


def _running(model: ServedModel, info: EngineInfo, container: Container) -> dict[str, Any]:
    kept = container.loader.seconds_kept(model)
    expires_at = NEVER
    if kept is not None:
        unused = container.registry.clock() - model.used_at
        expires_at = datetime.now(UTC) + timedelta(seconds=max(0.0, kept - unused))
    return {
        **names(model),
        "size": model.memory_bytes,
        "size_vram": 0 if info.device == "cpu" else model.memory_bytes,
        "details": details(model),
        "expires_at": expires_at,
        "context_length": info.max_context,
    }


def _model_info(info: EngineInfo) -> dict[str, Any]:
    family = info.architecture or "model"
    told = {
        "general.architecture": family,
        "general.parameter_count": info.parameters,
        f"{family}.context_length": info.max_context,
    }
    if info.encoding is not None and info.encoding.dimensions is not None:
        told[f"{family}.embedding_length"] = info.encoding.dimensions
    return told


def _parameters(spec: ModelSpec) -> Iterator[str]:
    """As a Modelfile has them."""
    for field, name in PARAMETERS.items():
        value = getattr(spec.sampling, field)
        if value is not None:
            yield f"{name} {value}"
    for stop in spec.sampling.stop or ():
        yield f'stop "{stop}"'
