"""The only place where objects are wired; what it builds it tears down, in reverse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from llmserve.admission.keys import KeyRing
from llmserve.domain import LoadProgress, ModelSpec
from llmserve.engines.base import Engine
from llmserve.engines.factory import build_engine
from llmserve.observability.loop_lag import watch_loop_lag
from llmserve.observability.metrics import Metrics
from llmserve.registry.catalog import Catalog
from llmserve.registry.hub import pull
from llmserve.registry.registry import Registry
from llmserve.service import Limits, Service
from llmserve.settings import Settings


@dataclass(frozen=True, slots=True)
class Container:
    """Everything that lives as long as the server does."""

    settings: Settings
    metrics: Metrics
    registry: Registry
    service: Service
    keys: KeyRing


def build_metrics(settings: Settings) -> Metrics:
    """The process's series; they exist before the event loop does."""
    return Metrics(settings.run_dir)


@contextlib.asynccontextmanager
async def run(settings: Settings, metrics: Metrics) -> AsyncIterator[Container]:
    """Build everything, start loading models, and on the way out drain and let go.

    Raises:
        ConfigurationError: a model that settings name does not exist, or its manifest is bad.
    """
    registry = Registry(_specs(settings), lambda spec: _engine(spec, settings))
    service = Service(
        registry,
        Limits(
            max_waiting=settings.max_waiting,
            wait_timeout_seconds=settings.wait_timeout_seconds,
            request_timeout_seconds=settings.request_timeout_seconds,
        ),
        metrics,
    )
    keys = KeyRing(key.get_secret_value() for key in settings.api_keys)
    lag = asyncio.create_task(watch_loop_lag(metrics.loop_lag.observe), name="loop-lag")
    registry.start_loading()
    try:
        yield Container(settings, metrics, registry, service, keys)
    finally:
        await service.drain(settings.drain_timeout_seconds)
        await registry.close()
        lag.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await lag


def _specs(settings: Settings) -> list[ModelSpec]:
    return Catalog.from_settings(settings).resolve_all(settings.models)


def _engine(spec: ModelSpec, settings: Settings) -> Engine:
    def fetch(spec: ModelSpec, on_progress: Callable[[LoadProgress], None]) -> Path:
        if spec.path is not None:
            return spec.path
        assert spec.hub_id is not None, "a spec has a path or a hub id"
        token = settings.hf_token.get_secret_value() if settings.hf_token else None
        return pull(
            spec.hub_id,
            settings.models_dir,
            revision=spec.revision,
            endpoint=settings.hf_endpoint,
            token=token,
            progress=on_progress,
        )

    return build_engine(
        spec,
        max_running=settings.max_running,
        torch_threads=settings.torch_threads,
        fetch=fetch,
    )
