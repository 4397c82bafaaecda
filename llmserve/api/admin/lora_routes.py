"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter: adapters as vLLM's operators load them,
on every worker of the box."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from loguru import logger
from pydantic import AfterValidator, Field
from starlette.responses import PlainTextResponse

from llmserve.api.admin.access import TheAdmin, identify_admin
from llmserve.api.container import TheContainer
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.fields import Fields
from llmserve.api.ignored import report_ignored
from llmserve.bootstrap import Container
from llmserve.domain import AdapterSource
from llmserve.errors import InvalidRequest, LLMServeError, ModelNotFound
from llmserve.operations.command import Command, Kind
from llmserve.registry.adapter_table import checked_adapter_name
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus

router = APIRouter(
    prefix="/v1", route_class=keyed_route(identify_admin, openai_error), tags=["admin"]
)

LoraName = Annotated[str, AfterValidator(checked_adapter_name)]


class LoadLoraBody(Fields):
    """POST /v1/load_lora_adapter."""

    lora_name: LoraName = Field(description="What requests call it, alone or as `BASE:NAME`.")
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="Its folder on the server's machine, or a hub id."
    )
    load_inplace: bool = Field(False, description="Replace the one of this name.")
    base_model_name: str | None = Field(None, description="Of which model; absent: the default.")


class UnloadLoraBody(Fields):
    """POST /v1/unload_lora_adapter."""

    lora_name: LoraName = Field(description="What requests call it.")
    lora_int_id: int | None = Field(
        None,
        description="vLLM's own number of it; there is none here.",
        json_schema_extra={"x-no-op": True},
    )


@router.post("/load_lora_adapter", response_class=PlainTextResponse)
async def load_lora_adapter(
    body: LoadLoraBody, request: Request, container: TheContainer, admin: TheAdmin
) -> Response:
    """Load an adapter of a model, under a name of its own."""
    report_ignored(body, request, container, admin)
    name = body.lora_name
    base = container.registry.resolve(body.base_model_name)
    known = base.model.adapters.get(name)
    is_loaded = known is not None and known.status is ModelStatus.READY
    if is_loaded and not body.load_inplace:
        raise InvalidRequest(
            f"the adapter {name!r} is loaded already; set load_inplace to replace it",
            param="lora_name",
        )
    model = f"{base.model.spec.name}:{name}"
    adapter = AdapterSource(name, body.lora_path, aliases=(name,))
    await _run(Command(Kind.LOAD, model, adapter=adapter), container, admin.name)
    return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")


@router.post("/unload_lora_adapter", response_class=PlainTextResponse)
async def unload_lora_adapter(
    body: UnloadLoraBody, request: Request, container: TheContainer, admin: TheAdmin
) -> Response:
    """Unload an adapter: open streams get `unload_timeout_seconds` to finish."""
    report_ignored(body, request, container, admin)
    found = _adapter(body.lora_name, container)
    await _run(Command(Kind.UNLOAD, found.name), container, admin.name)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


def _adapter(name: str, container: Container) -> Resolved:
    """By its own name or by an alias.

    Raises:
        ModelNotFound: there is none, or several bases have one.
    """
    everything = container.registry.everything
    adapters = [one for one in everything if one.adapter is not None]
    called = [one for one in adapters if name in one.names]
    own = [one for one in adapters if one.adapter is not None and one.adapter.spec.name == name]
    found = called or own
    if len(found) == 1:
        return found[0]
    several = f"; there are {', '.join(one.name for one in found)}" if found else ""
    raise ModelNotFound(f"the adapter {name!r} cannot be found{several}", param="lora_name")


async def _run(command: Command, container: Container, admin: str) -> None:
    """Carry out a command on every worker.

    Raises:
        LLMServeError: the first worker's that could not.
    """
    logger.info("{}: {} {}", admin, command.kind.value, command.model)
    # It goes on when its client hangs up: half a load helps nobody.
    replies = await asyncio.shield(container.operations.collect(command))
    for reply in replies:
        if reply.message["event"] == "error":
            raise _raised(reply.message["error"])


def _raised(told: dict[str, Any]) -> LLMServeError:
    """A worker's error, here."""
    error = LLMServeError(told["message"], param=told["param"])
    error.status, error.code = told["status"], told["code"] or error.code
    return error
