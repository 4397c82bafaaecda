"""The standard health service, of the whole server (the empty name) and of each model."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from llmserve.bootstrap import Container
from llmserve.errors import ModelNotFound
from llmserve.grpc.edge import Context
from llmserve.proto.metadata import DRAINING
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus

WATCH_SECONDS: Final = 0.25
SERVER: Final = ("", "llmserve.v1.Generation")
"""Names of the whole server."""
STATUS: Final = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Computes every answer at the moment it is asked for, so that none is out of date."""

    def __init__(self, container: Container) -> None:
        self._container = container

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Whether requests should be sent here."""
        status = self._status(request.service)
        if status == STATUS.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no model of that name is served")
        if self._is_leaving:
            context.set_trailing_metadata(((DRAINING, "true"),))
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Every change, until the client leaves or the server stops."""
        told = None
        while True:
            status = self._status(request.service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await asyncio.sleep(WATCH_SECONDS)

    async def List(
        self, request: health_pb2.HealthListRequest, context: Context
    ) -> health_pb2.HealthListResponse:
        """The server and every model."""
        names = [*SERVER, *(found.name for found in self._container.registry.everything)]
        return health_pb2.HealthListResponse(
            statuses={
                name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in names
            }
        )

    def _status(self, name: str) -> Any:
        registry = self._container.registry
        if name in SERVER:
            models = [Resolved(one) for one in registry.models if not one.is_on_demand]
        else:
            try:
                models = [registry.resolve(name)]
            except ModelNotFound:
                return STATUS.SERVICE_UNKNOWN
        is_serving = not self._is_leaving and all(map(_serves, models))
        return STATUS.SERVING if is_serving else STATUS.NOT_SERVING

    @property
    def _is_leaving(self) -> bool:
        service = self._container.service
        return service.is_draining or service.is_retiring


def _serves(found: Resolved) -> bool:
    """Whether a request would be answered; it may load the model or adapter first."""
    model, adapter = found.model, found.adapter
    waits_for_requests = model.is_on_demand and model.status is ModelStatus.UNLOADED
    if model.status is not ModelStatus.READY and not waits_for_requests:
        return False
    if adapter is None or adapter.status is ModelStatus.READY:
        return True
    return adapter.is_on_demand and adapter.status is not ModelStatus.BROKEN
