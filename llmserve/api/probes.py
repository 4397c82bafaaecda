"""Health for load balancers: no key is asked for. Metrics for Prometheus: open by default."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import HTTPConnection

from llmserve.api.container import TheContainer, identify
from llmserve.api.edge.json import JSON
from llmserve.bootstrap import Container
from llmserve.domain import Caller, Scope
from llmserve.errors import Forbidden
from llmserve.registry.served import ModelStatus, ServedModel

router = APIRouter(tags=["operations"])


@router.head("/health", include_in_schema=False)
@router.head("/health/live", include_in_schema=False)
@router.post("/ping", include_in_schema=False)
@router.head("/ping", include_in_schema=False)
@router.get("/ping", response_class=Response)
@router.get("/health", response_class=Response)
@router.get("/health/live", response_class=Response)
async def live(container: TheContainer) -> Response:
    """Whether the process works: 503 when a running request has been silent for too long.

    Says nothing about whether models are loaded: a server that is busy or loading is alive.
    """
    limit = container.settings.hang_timeout_seconds
    ages = {
        model.spec.name: model.seconds_since_step
        for model in container.registry.models
        if model.engine is not None or model.error is not None
    }
    hung = [name for name, age in ages.items() if age is not None and age > limit]
    body = {"status": "hung" if hung else "alive", "seconds_since_step": ages}
    return JSON(body, status_code=503 if hung else 200)


@router.head("/version", include_in_schema=False)
@router.get("/version", response_class=Response)
async def server_version() -> Response:
    """Which version of the server this is."""
    return JSON({"version": version("llmserve")})


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", response_class=Response)
async def ready(container: TheContainer) -> Response:
    """Whether requests should be sent here: every model generated its warm-up tokens."""
    models = container.registry.models
    status = _status(container)
    body = {
        "status": status,
        "models": [_progress(model, container) for model in models],
        "workers": _workers(container),
    }
    headers = {} if status == "ready" else {"Retry-After": "5"}
    return JSON(body, status_code=200 if status == "ready" else 503, headers=headers)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=Response)
async def metrics(connection: HTTPConnection, container: TheContainer) -> Response:
    """Every series of all workers, in Prometheus's text format."""
    if container.settings.metrics_access == "key":
        _check_may_read_metrics(await identify(connection, container))
    text = await asyncio.to_thread(container.metrics.render)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _status(container: Container) -> str:
    if container.service.is_draining:
        return "draining"
    statuses = {model.status for model in container.registry.models if not model.is_on_demand}
    for status in (ModelStatus.BROKEN, ModelStatus.LOADING):
        if status in statuses:
            return status.value
    # Adapters that are loaded at start come after their base.
    return "ready" if container.loader.is_settled else ModelStatus.LOADING.value


def _workers(container: Container) -> list[dict[str, Any]]:
    """The workers of this box; requests go to those that can serve."""
    member = container.membership
    if member is None:
        return []
    return [{"worker": w.number, "state": w.state.name.lower()} for w in member.board.workers()]


def _check_may_read_metrics(caller: Caller) -> None:
    if not caller.scopes & {Scope.METRICS, Scope.ADMIN}:
        raise Forbidden(f"key {caller.name!r} has neither the scope `metrics` nor `admin`")


def _progress(model: ServedModel, container: Container) -> dict[str, Any]:
    running, waiting = container.service.load(model)
    background_running, background_waiting = container.service.background_load(model)
    body: dict[str, Any] = {
        "name": model.spec.name,
        "status": model.status.value,
        "running": running,
        "waiting": waiting,
        "background_running": background_running,
        "background_waiting": background_waiting,
    }
    if model.status is ModelStatus.LOADING:
        body |= {"stage": model.progress.stage, "fraction": model.progress.fraction}
    if model.error is not None:
        body["error"] = model.error.message
    if model.warnings:
        body["warnings"] = list(model.warnings)
    return body
