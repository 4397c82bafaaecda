"""The only place where objects are wired; what it builds it tears down, in reverse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmserve.admission.key_file import KeyFile
from llmserve.admission.keys import KeyRing
from llmserve.admission.limits import Limiter
from llmserve.domain import EngineKind, LoadProgress, ModelSpec
from llmserve.engines.base import Engine
from llmserve.engines.batching.loop import StepReport
from llmserve.engines.factory import build_engine
from llmserve.engines.footprint import footprint
from llmserve.fleet.control import ControlServer
from llmserve.fleet.membership import Membership
from llmserve.fleet.run_directory import LIMITS, METRICS, RunDirectory
from llmserve.fleet.upkeep import Upkeep
from llmserve.observability.accounting import AccountingLog
from llmserve.observability.loop_lag import watch_loop_lag
from llmserve.observability.metrics import Metrics
from llmserve.observability.tracing import Tracer, build_tracer
from llmserve.operations.command import Command
from llmserve.operations.desired import Desired, DesiredModels
from llmserve.operations.everywhere import Everywhere
from llmserve.operations.here import Operations
from llmserve.operations.status import WorkerStatus
from llmserve.registry.catalog import Catalog
from llmserve.registry.hub import pull
from llmserve.registry.loader import Loader, LoadPolicy
from llmserve.registry.registry import Registry
from llmserve.service import Account, Limits, Service
from llmserve.service.watchdog import Watchdog
from llmserve.settings import Settings


@dataclass(frozen=True, slots=True)
class Container:
    """Everything that lives as long as the server does.

    `membership` is this worker's place among the workers of the box, `None` where the process
    is alone.
    """

    settings: Settings
    metrics: Metrics
    registry: Registry
    service: Service
    keys: KeyRing
    everywhere: Everywhere
    tracer: Tracer
    membership: Membership | None = None


def build_metrics(settings: Settings) -> Metrics:
    """The process's series; they exist before the event loop does."""
    directory = settings.run_dir / METRICS if settings.run_dir is not None else None
    return Metrics(directory, compat=settings.metrics_compat)


@contextlib.asynccontextmanager
async def run(
    settings: Settings, metrics: Metrics, board: int | None = None
) -> AsyncIterator[Container]:
    """Build everything, start loading models, and on the way out drain and let go. `board` is the
    workers' board, where the process inherited one.

    Raises:
        ConfigurationError: a model that settings name does not exist, or its manifest is bad;
            the key file cannot be read; an extra is missing.
    """
    async with contextlib.AsyncExitStack() as stack:
        desired = DesiredModels(settings.run_dir)
        upkeep = _upkeep(settings, metrics, desired, stack)
        membership = _join(settings, board, stack)
        tracer = build_tracer(settings.otlp_endpoint)
        stack.callback(tracer.close)
        device = _device(settings, membership)
        catalog = Catalog.from_settings(settings.model_copy(update={"device": device}))
        registry = _registry(settings, catalog, desired.known)
        loader = Loader(
            registry,
            lambda spec: _engine(spec, settings, device, metrics),
            policy=LoadPolicy(
                memory_bytes=settings.models_memory_bytes,
                idle_seconds=settings.idle_unload_seconds,
                unload_seconds=settings.unload_timeout_seconds,
            ),
            estimate=lambda spec: _estimate(spec, settings),
        )
        service = Service(
            registry,
            loader,
            Limits(
                max_waiting=settings.max_waiting,
                wait_timeout_seconds=settings.wait_timeout_seconds,
                request_timeout_seconds=settings.request_timeout_seconds,
            ),
            metrics,
            limiter=Limiter(membership.run_dir / LIMITS if membership is not None else None),
            account=_account(settings, metrics, tracer, stack),
        )
        here = Operations(
            service,
            WorkerStatus(service, membership, device),
            catalog.resolve_for_stranger,
            desired,
        )
        if membership is not None and upkeep is not None:
            await _take_commands(here, membership, upkeep, stack)
        watchdog = Watchdog(
            service,
            metrics,
            settings.hang_timeout_seconds,
            membership.row if membership is not None else None,
        )
        await _in_background(watchdog.run(), "watchdog", stack)
        await _in_background(watch_loop_lag(metrics.loop_lag.observe), "loop-lag", stack)
        stack.push_async_callback(loader.close)
        loader.start()
        stack.push_async_callback(service.drain, settings.drain_timeout_seconds)
        yield Container(
            settings,
            metrics,
            registry,
            service,
            _keys(settings),
            Everywhere(here, membership),
            tracer,
            membership,
        )


def _upkeep(
    settings: Settings, metrics: Metrics, desired: DesiredModels, stack: contextlib.AsyncExitStack
) -> Upkeep | None:
    if settings.run_dir is None:
        return None
    upkeep = Upkeep(RunDirectory(settings.run_dir), metrics.restore, desired.restore)
    upkeep.look()
    stack.callback(upkeep.close)
    return upkeep


def _join(
    settings: Settings, board: int | None, stack: contextlib.AsyncExitStack
) -> Membership | None:
    if settings.run_dir is None:
        return None
    membership = Membership(settings.run_dir, settings.workers, board)
    stack.callback(membership.leave)
    return membership


def _device(settings: Settings, membership: Membership | None) -> str:
    """The device of this worker's slot; workers beyond the last device begin anew."""
    if not settings.devices:
        return settings.device
    number = membership.number if membership is not None else 0
    return settings.devices[number % len(settings.devices)]


def _registry(settings: Settings, catalog: Catalog, desired: Desired) -> Registry:
    specs = catalog.resolve_all(desired.applied_to(settings.models))
    names = {spec.name for spec in specs}
    on_demand = [
        spec
        for spec in catalog.resolve_all(_on_demand(settings, catalog))
        if spec.name not in names and spec.argument not in desired.unloaded
    ]
    return Registry(
        specs,
        on_demand=on_demand,
        pinned=settings.pinned_models,
        default=settings.default_model,
    )


def _on_demand(settings: Settings, catalog: Catalog) -> list[str]:
    named = [name for name in settings.models_on_demand if name != "*"]
    everything = catalog.names() if "*" in settings.models_on_demand else []
    return list(dict.fromkeys((*named, *everything)))


def _account(
    settings: Settings, metrics: Metrics, tracer: Tracer, stack: contextlib.AsyncExitStack
) -> Account:
    log = None
    if settings.accounting_log is not None:
        log = AccountingLog(
            settings.accounting_log, settings.accounting_max_bytes, settings.accounting_keep
        )
        stack.callback(log.close)
    return Account(
        metrics, log=log, tracer=tracer, slow_request_seconds=settings.slow_request_seconds
    )


def _keys(settings: Settings) -> KeyRing:
    return KeyRing(
        (key.get_secret_value() for key in settings.api_keys),
        (key.get_secret_value() for key in settings.admin_keys),
        KeyFile(settings.keys_file) if settings.keys_file is not None else None,
    )


async def _take_commands(
    here: Operations, membership: Membership, upkeep: Upkeep, stack: contextlib.AsyncExitStack
) -> None:
    async def answer(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        async for message in here.run(Command.from_wire(request)):
            yield message

    control = ControlServer(membership.socket, answer)
    await control.keep()
    stack.push_async_callback(control.close)
    await _in_background(upkeep.run(control), "upkeep", stack)


async def _in_background(
    work: Coroutine[Any, Any, None], name: str, stack: contextlib.AsyncExitStack
) -> None:
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)


def _estimate(spec: ModelSpec, settings: Settings) -> int:
    size = footprint(spec, settings.max_running, settings.kv_cache_bytes)
    if size is None:
        return 0
    return size.weights if spec.engine is EngineKind.THREADED else size.total


def _workers_on(device: str, settings: Settings) -> int:
    """How many workers share this device's memory."""
    if not settings.devices:
        return settings.workers
    counted = (settings.devices[n % len(settings.devices)] for n in range(settings.workers))
    return max(1, sum(1 for other in counted if other == device))


def _measure_step(metrics: Metrics, model: str, report: StepReport) -> None:
    """Called on the step loop's thread."""
    metrics.step_time.labels(model).observe(report.seconds)
    metrics.iteration_tokens.labels(model).observe(report.tokens)


def _engine(spec: ModelSpec, settings: Settings, device: str, metrics: Metrics) -> Engine:
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
        kv_cache_bytes=settings.kv_cache_bytes,
        memory_share=1.0 / _workers_on(device, settings),
        max_tokens_per_step=settings.max_tokens_per_step,
        prefix_caching=settings.prefix_caching,
        torch_compile=settings.torch_compile,
        cache_dir=settings.cache_dir,
        on_step=partial(_measure_step, metrics, spec.name),
    )
