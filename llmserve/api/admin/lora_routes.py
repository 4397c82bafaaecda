"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter: adapters as vLLM's operators load them,
on every worker of the box."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Response
from loguru import logger
from pydantic import AfterValidator, Field
from starlette.responses import PlainTextResponse

from llmserve.api.admin.access import TheAdmin, identify_admin
from llmserve.api.container import TheContainer
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.error_shape import openai_error
from llmserve.api.fields import Fields
from llmserve.bootstrap import Container
from llmserve.domain import AdapterSource
from llmserve.errors import InvalidRequest, ModelNotFound
from llmserve.operations.command import Command, Kind
from llmserve.operations.operations import WorkerReply
from llmserve.registry.adapter_table import checked_adapter_name
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus

router = APIRouter(
    prefix="/v1", route_class=keyed_route(identify_admin, openai_error), tags=["admin"]
)

AdapterName = Annotated[str, AfterValidator(checked_adapter_name)]
